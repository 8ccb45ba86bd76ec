#include "golden.h"

int main(int argc, char** argv) {
  using namespace liveavatar::golden;
  const Kinds kinds{{"schedule", check_schedule},   {"image_prep", check_image_prep},
                    {"tokenizer", check_tokenizer}, {"umt5", check_umt5},
                    {"wav2vec2", check_wav2vec2},   {"wan_vae", check_wan_vae},
                    {"torch_pth", check_torch_pth}, {"lora", check_lora},
                    {"s2v_dit", check_s2v_dit},     {"generate", check_generate},
                    {"solvers", check_solvers},     {"checkpoint_files", check_checkpoint_files},
                    {"speakers", check_speakers},   {"pose", check_pose}};
  return run(argc, argv, kinds);
}
