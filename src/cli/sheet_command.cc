// `liveavatar sheet`: a video as one picture.
#include <memory>

#include "cli/commands.h"
#include "cli/job_files.h"
#include "media/contact_sheet.h"

namespace liveavatar::cli {

Command add_sheet(CLI::App& app) {
  struct Flags {
    std::string video, png;
    int columns = 6, rows = 4;
  };
  auto flags = std::make_shared<Flags>();
  CLI::App* sheet = app.add_subcommand("sheet", "Write a contact sheet (PNG) of a video");
  sheet->add_option("VIDEO", flags->video, "The video to read")->required();
  sheet->add_option("PNG", flags->png, "The picture to write")->required();
  sheet->add_option("--columns", flags->columns, "Frames side by side")
      ->check(CLI::Range(1, 100))
      ->capture_default_str();
  sheet->add_option("--rows", flags->rows, "Rows of frames")->check(CLI::Range(1, 100))->capture_default_str();
  return [flags] {
    auto claims = claim_outputs({{"VIDEO", flags->video}}, {{"PNG", flags->png}});
    if (!claims.ok()) return report(claims.status());
    Status status = write_contact_sheet(flags->video, flags->png, flags->columns, flags->rows);
    return status.ok() ? 0 : report(status);
  };
}

}  // namespace liveavatar::cli
