// `liveavatar sheet`: a video as one image.
#include <filesystem>
#include <memory>

#include "cli/commands.h"
#include "cli/job_files.h"
#include "core/status.h"
#include "core/text.h"
#include "media/contact_sheet.h"

namespace liveavatar::cli {
namespace {

struct Flags {
  std::string video, png;
  int columns = 6, rows = 4;
};

// What has another ending is hardly meant to be replaced by an image.
Status check_png_path(const std::string& path) {
  std::string ending = lower_case(std::filesystem::path(path).extension().string());
  return ending == ".png" ? Status() : invalid_argument("PNG " + path + ": the name must end in .png");
}

Status make_sheet(const Flags& f) {
  LA_RETURN_IF_ERROR(check_png_path(f.png));
  LA_ASSIGN_OR_RETURN(std::vector<OutputClaim> claims, claim_outputs({{"VIDEO", f.video}}, {{"PNG", f.png}}));
  return write_contact_sheet(f.video, f.png, f.columns, f.rows);
}

}  // namespace

Command add_sheet(CLI::App& app) {
  auto flags = std::make_shared<Flags>();
  CLI::App* sheet = app.add_subcommand("sheet", "Write a contact sheet (PNG) of a video");
  sheet->footer("Example:\n  liveavatar sheet me.mp4 me.png --columns 6 --rows 4");
  sheet->add_option("VIDEO", flags->video, "The video to read")->required();
  sheet->add_option("PNG", flags->png, "The image to write")->required();
  sheet->add_option("--columns", flags->columns, "Frames side by side")
      ->check(CLI::Range(1, 100))
      ->capture_default_str();
  sheet->add_option("--rows", flags->rows, "Rows of frames")->check(CLI::Range(1, 100))->capture_default_str();
  return [flags] {
    Status status = make_sheet(*flags);
    return status.ok() ? 0 : report(status);
  };
}

}  // namespace liveavatar::cli
