// Ranks whose cards are linked by NCCL: threads of this process with an emulated device each, and a stand-in for the
// library below our own calls of it.
#include "backend/cuda/libraries/nccl.h"

#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <thread>

#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/emulated/emulated_runtime.h"
#include "core/memory.h"
#include "models/s2v_dit/s2v_dit.h"
#include "ops/transfer.h"
#include "parallel/local_group.h"
#include "stand_in_nccl.h"

namespace liveavatar::cuda {
namespace {

const std::string kGolden = std::string(LA_SOURCE_DIR) + "/tests/goldens/dit";

std::string slot_of(int rank) { return "0000:0" + std::to_string(rank) + ":00.0"; }

// A rank's card.
struct Machine {
  explicit Machine(int rank) : Machine(rank, slot_of(rank), true) {}
  Machine(int rank, const std::string& slot, bool has_library)
      : device(make_emulated_runtime(card_of(slot, has_library)), static_cast<uint8_t>(rank)),
        backend(*CudaBackend::open(device, {.budget = &budget})) {}
  static EmulatedCard card_of(const std::string& slot, bool has_library) {
    EmulatedCard card;
    card.slot = slot;
    if (has_library) card.link_library = [] { return make_nccl(stand_in_functions()); };
    return card;
  }

  CudaDevice device;
  Budget host, budget{Budget::kUnlimited, device, host};
  std::unique_ptr<Backend> backend;
};

class NcclTest : public ::testing::Test {
 protected:
  void SetUp() override {
    StandInNccl& all = stand_in_nccl();
    all.refuses_rank = all.fails_after = -1;
    all.groups = all.ended = all.died = 0;
  }

  // body(group) as each rank, at once.
  static void on_ranks(int ranks, const std::function<void(Group&)>& body, const Group::Options& options = {}) {
    std::vector<std::string> devices;
    for (int rank = 0; rank < ranks; ++rank) devices.push_back("cuda:" + std::to_string(rank));
    std::vector<std::unique_ptr<Group>> groups = open_local_groups(devices, options);
    std::vector<std::jthread> threads;
    for (const std::unique_ptr<Group>& group : groups) threads.emplace_back([&body, &group] { body(*group); });
  }

  // body(machine, link, group) as each of linked ranks.
  using LinkedBody = std::function<void(Machine&, DeviceLink&, Group&)>;
  static void on_linked_ranks(int ranks, const LinkedBody& body, const Group::Options& options = {}) {
    on_ranks(
        ranks,
        [&](Group& group) {
          Machine machine(group.rank());
          Expected<LinkChoice> choice = machine.backend->open_link(group);
          ASSERT_TRUE(choice.ok()) << choice.status().message();
          ASSERT_NE(choice->link, nullptr) << choice->text;
          EXPECT_EQ(choice->text, "NCCL 2.28.9");
          body(machine, *choice->link, group);
        },
        options);
  }
};

OwnedTensor filled(Machine& machine, int64_t count, float value) {
  OwnedTensor owned = *OwnedTensor::allocate(machine.budget, MemoryCategory::kRuntime, {count}, DType::kF32);
  const Upload values(*machine.backend, owned.tensor);
  for (float& v : values.values()) v = value;
  return owned;
}

// To the one other rank and back.
Status swap(DeviceLink& link, const Group& group, const OwnedTensor& out, const OwnedTensor& in) {
  const DeviceMessage send{1 - group.rank(), out.tensor}, receive{1 - group.rank(), in.tensor};
  return link.exchange({&send, 1}, {&receive, 1});
}

TEST_F(NcclTest, MessagesAreInOrderWithTheOpsOfEveryRank) {
  constexpr int kRanks = 3;
  on_linked_ranks(kRanks, [](Machine& machine, DeviceLink& link, Group& group) {
    const int own = group.rank();
    std::vector<OwnedTensor> in;
    const OwnedTensor out = filled(machine, 100, -1);
    for (int rank = 0; rank < kRanks; ++rank) in.push_back(filled(machine, 100, -1));
    for (int turn = 0; turn < 10; ++turn) {
      machine.backend->fill(out.tensor, static_cast<float>(10 * turn + own));  // what is on its way is not overwritten
      std::vector<DeviceMessage> sends, receives;
      for (int rank = 0; rank < kRanks; ++rank) {
        if (rank == own) continue;
        sends.push_back({rank, out.tensor});
        receives.push_back({rank, in[static_cast<size_t>(rank)].tensor});
      }
      ASSERT_TRUE(link.exchange(sends, receives).ok());
      if (turn % 3 != 2) continue;  // else nobody waits
      for (int rank = 0; rank < kRanks; ++rank) {
        if (rank == own) continue;
        const Download got(*machine.backend, in[static_cast<size_t>(rank)].tensor);
        EXPECT_EQ(got.values()[99], static_cast<float>(10 * turn + rank));
      }
    }
    EXPECT_TRUE(link.finish().ok());
  });
  EXPECT_EQ(stand_in_nccl().ended, kRanks);
  EXPECT_EQ(stand_in_nccl().died, 0);
}

// The video model's first block, as one rank of a stage.
class SharedStep {
 public:
  SharedStep() {
    std::ifstream file(kGolden + "/golden.json");
    config_ = *parse_dit_config(nlohmann::json::parse(file).at("config").dump(), "golden.json");
    source_ = *open_safetensors(kGolden + "/weights.safetensors");
  }

  // stage: null: alone.
  std::vector<float> velocity(Group* stage, bool linked) {
    const int rank = stage == nullptr ? 0 : stage->rank();
    Machine machine(rank, slot_of(rank), linked);
    Backend& backend = *machine.backend;
    const DitTypes types(DType::kBF16);
    auto dit = *S2vDit::load(config_, *source_, backend, machine.budget, types);
    auto pages = *dit->open_weight_groups({config_.layers}, machine.budget);
    DitGeometry g{.latent_height = 8, .latent_width = 12};
    if (stage != nullptr) g.share = {rank, stage->size()};
    EXPECT_TRUE(backend.reserve(largest_ops(config_, g, types)).ok());
    Arena arena = arena_of(g, types, machine.budget);
    DitCaches caches(config_, g, 1, 1, types, arena);
    std::vector<std::byte> staging;
    DitSession session(g, std::move(caches), DitActivations(config_, g, types.values, arena));
    if (stage != nullptr) {
      const ExchangeBuffers& buffers = session.activations.exchange;
      staging.resize(buffers.staging_bytes());
      const HeadExchange::Memory memory{config_.heads, buffers, staging.data()};
      session.exchange = std::make_unique<HeadExchange>(*stage, backend, g.share, memory);
      EXPECT_TRUE(session.exchange->open_link().ok());
    }
    const OwnedTensor text = uniform(machine, machine.budget, {9, config_.text_dim});
    const OwnedTensor reference = uniform(machine, machine.budget, {16, 1, 8, 12});
    const OwnedTensor motion = uniform(machine, machine.budget, {16, 19, 8, 12});
    const OwnedTensor sound = uniform(machine, machine.host, {config_.audio_layers, config_.audio_dim, 12});
    const OwnedTensor latents = uniform(machine, machine.budget, {16, 3, 8, 12});
    const OwnedTensor out = uniform(machine, machine.budget, {16, 3, 8, 12});
    dit->encode_text(text.tensor, session);
    dit->prefill(reference.tensor, motion.tensor, *pages, session);
    dit->encode_audio(sound.tensor, session, session.caches.actors.front());
    dit->forward({.latents = latents.tensor, .timestep = 900}, *pages, session, out.tensor);
    if (stage != nullptr) {
      const Status status = session.exchange->finish();
      EXPECT_TRUE(status.ok()) << status.message();
    }
    const Download values(backend, out.tensor);
    EXPECT_TRUE(machine.device.status().ok()) << machine.device.status().message();
    return {values.values().begin(), values.values().end()};
  }

 private:
  // Of the arena's bytes alone: it outlives the session.
  Arena arena_of(const DitGeometry& g, const DitTypes& types, Budget& budget) const {
    Arena measure;
    DitCaches(config_, g, 1, 1, types, measure);
    DitActivations(config_, g, types.values, measure);
    return *Arena::allocate(budget, MemoryCategory::kKvCache, measure.used_bytes());
  }

  static OwnedTensor uniform(Machine& machine, Budget& budget, Shape shape) {
    OwnedTensor owned = *OwnedTensor::allocate(budget, MemoryCategory::kRuntime, shape, DType::kF32);
    const Upload values(*machine.backend, owned.tensor);
    uint32_t state = 7;
    for (float& value : values.values()) {
      state = state * 1664525u + 1013904223u;
      value = static_cast<float>(state >> 8) * 0x1p-23f - 1;
    }
    return owned;
  }

  DitConfig config_;
  TensorSourcePtr source_;
};

TEST_F(NcclTest, AStepThatCardsShareHasTheBitsOfOne) {
  const std::vector<float> want = SharedStep().velocity(nullptr, false);
  for (int ranks : {2, 3}) {  // of three heads
    SetUp();
    on_ranks(ranks, [&](Group& group) { EXPECT_EQ(SharedStep().velocity(&group, true), want); });
    EXPECT_GT(stand_in_nccl().groups, 0);
    EXPECT_EQ(stand_in_nccl().ended, ranks);
    EXPECT_EQ(stand_in_nccl().died, 0);
  }
}

TEST_F(NcclTest, WithoutTheLibraryTheSameBitsGoThroughTheHost) {
  const std::vector<float> want = SharedStep().velocity(nullptr, false);
  on_ranks(2, [&](Group& group) { EXPECT_EQ(SharedStep().velocity(&group, group.rank() == 0), want); });
  EXPECT_EQ(stand_in_nccl().groups, 0);
}

// The plan counts so many (link_bytes).
TEST_F(NcclTest, ACommunicatorHasNoMoreChannelsThanWerePlanned) {
  on_linked_ranks(3, [](Machine& machine, DeviceLink&, Group& group) {
    EXPECT_EQ(machine.backend->link_bytes(group.size()), kLinkBytes + 2 * kLinkPeerBytes);
    EXPECT_EQ(machine.backend->link_bytes(1), 0u);
  });
  EXPECT_EQ(stand_in_nccl().channels, kLinkChannels);
}

TEST_F(NcclTest, TwoRanksOnOneCardAreNotLinked) {
  on_ranks(3, [](Group& group) {
    Machine machine(group.rank(), slot_of(group.rank() == 2 ? 0 : group.rank()), true);
    const Expected<LinkChoice> choice = machine.backend->open_link(group);
    ASSERT_TRUE(choice.ok());
    EXPECT_EQ(choice->link, nullptr);
    EXPECT_EQ(choice->text, group.name_of(0) + " and " + group.name_of(2) + " are on the same card");
  });
}

TEST_F(NcclTest, ARankWithoutTheLibraryKeepsTheOthersFromIt) {
  on_ranks(3, [](Group& group) {
    Machine machine(group.rank(), slot_of(group.rank()), group.rank() != 1);
    const Expected<LinkChoice> choice = machine.backend->open_link(group);
    ASSERT_TRUE(choice.ok());
    EXPECT_EQ(choice->link, nullptr);
    EXPECT_EQ(choice->text, group.name_of(1) + ": the emulated device has none");
  });
}

// The others wait for it to join, and hear of it.
TEST_F(NcclTest, ARankThatTheLibraryRefusesKeepsTheOthersFromIt) {
  stand_in_nccl().refuses_rank = 1;
  on_ranks(3, [](Group& group) {
    Machine machine(group.rank());
    const Expected<LinkChoice> choice = machine.backend->open_link(group);
    ASSERT_TRUE(choice.ok());
    EXPECT_EQ(choice->link, nullptr);
    EXPECT_EQ(choice->text, "NCCL 2.28.9: " + group.name_of(1) + ": invalid usage (stand-in)");
    std::vector<int> value{group.rank()};  // nothing was left in the group
    EXPECT_TRUE(group.broadcast(0, Tag::kLink, std::as_writable_bytes(std::span(value))).ok());
    EXPECT_EQ(value.front(), 0);
  });
  EXPECT_EQ(stand_in_nccl().died, 2);
}

TEST_F(NcclTest, ARankThatDiesBeforeItJoinsEndsTheOthers) {
  on_ranks(2, [](Group& group) {
    if (group.rank() == 1) return group.abort(io_error("rank 1 died"));
    Machine machine(0);
    EXPECT_EQ(machine.backend->open_link(group).status().message(), "rank 1 died");
  });
}

TEST_F(NcclTest, AnErrorOfTheLibraryEndsEveryWaitAndNamesThePeer) {
  on_linked_ranks(2, [](Machine& machine, DeviceLink& link, Group& group) {
    const OwnedTensor out = filled(machine, 10, 1), in = filled(machine, 10, 0);
    ASSERT_TRUE(swap(link, group, out, in).ok());
    EXPECT_TRUE(link.finish().ok());
    std::vector<int> both{0};
    ASSERT_TRUE(group.broadcast(0, Tag::kJob, std::as_writable_bytes(std::span(both))).ok());
    stand_in_nccl().fails_after = 0;
    EXPECT_FALSE(group.receive(1 - group.rank(), Tag::kBlock, std::as_writable_bytes(std::span(both))).ok());
    const std::string message = group.status().message();
    EXPECT_NE(message.find("NCCL 2.28.9, messages with rank "), std::string::npos) << message;
    EXPECT_NE(message.find("remote process exited (stand-in)"), std::string::npos) << message;
    EXPECT_EQ(swap(link, group, out, in).message(), message);
    EXPECT_EQ(link.finish().message(), message);
  });
  EXPECT_EQ(stand_in_nccl().died, 2);
}

TEST_F(NcclTest, ARankThatNeverAnswersIsNamedInTime) {
  on_linked_ranks(2,
                  [](Machine& machine, DeviceLink& link, Group& group) {
                    if (group.rank() == 1) {  // it hangs, and waits for nothing in the group
                      while (group.status().ok()) std::this_thread::sleep_for(std::chrono::milliseconds(10));
                      return;
                    }
                    const OwnedTensor out = filled(machine, 10, 1), in = filled(machine, 10, 0);
                    const std::string message = swap(link, group, out, in).message();
                    EXPECT_NE(message.find(group.name_of(1) + " took no part in an exchange"), std::string::npos)
                        << message;
                  },
                  {.wait_s = 1});
  EXPECT_EQ(stand_in_nccl().died, 2);
}

// The work of the emulated device is done when somebody waits for it: here nobody does.
TEST_F(NcclTest, AnExchangeThatDoesNotEndOnTheCardIsNamedInTime) {
  on_linked_ranks(2,
                  [](Machine& machine, DeviceLink& link, Group& group) {
                    const OwnedTensor out = filled(machine, 10, 1), in = filled(machine, 10, 0);
                    ASSERT_TRUE(swap(link, group, out, in).ok());
                    while (group.status().ok()) std::this_thread::sleep_for(std::chrono::milliseconds(10));
                    const std::string message = group.status().message();
                    EXPECT_NE(message.find("took no part in an exchange"), std::string::npos) << message;
                    EXPECT_EQ(link.finish().message(), message);
                  },
                  {.wait_s = 1});
  EXPECT_EQ(stand_in_nccl().died, 2);
}

TEST_F(NcclTest, AFailureOfTheGroupEndsAnExchange) {
  on_linked_ranks(2, [](Machine& machine, DeviceLink& link, Group& group) {
    if (group.rank() == 1) return group.abort(out_of_memory("rank 1: no memory"));
    const OwnedTensor out = filled(machine, 10, 1), in = filled(machine, 10, 0);
    EXPECT_EQ(swap(link, group, out, in).message(), "rank 1: no memory");
  });
  EXPECT_EQ(stand_in_nccl().died, 2);
}

// The library itself, where it is installed: every function that we call is there. It needs a card to join.
TEST(NcclLibrary, IsFoundOrSaysWhereItWasLookedFor) {
  const Expected<std::unique_ptr<LinkLibrary>> library = open_nccl();
  if (library.ok()) {
    EXPECT_TRUE((*library)->name().starts_with("NCCL 2.")) << (*library)->name();
  } else {
    EXPECT_NE(library.status().message().find("libnccl.so.2"), std::string::npos) << library.status().message();
  }
}

}  // namespace
}  // namespace liveavatar::cuda
