// The choices that were made on a card, kept on disk for later jobs. A table belongs to a kind of op, a card, its
// driver, the library and the version of this program: another of these, and it is made anew.
#pragma once

#include <vector>

#include "backend/cuda/library_choice.h"
#include "backend/cuda/runtime.h"

namespace liveavatar::cuda {

// $XDG_CACHE_HOME/liveavatar/choices.json, or ~/.cache/liveavatar/choices.json; "": neither is set.
std::string default_choice_file();

class ChoiceFile {
 public:
  // path: "" keeps nothing. kind: of the ops, "linear". library: its name().
  ChoiceFile(std::string path, const Card& card, std::string kind, const std::string& library);

  // Empty: there are none, or the file is not ours.
  std::vector<LibraryChoice> read() const;
  // To the card's table, in place of what says the same; other tables stay. The file appears when it is whole,
  // in a folder that is made.
  Status add(const std::vector<LibraryChoice>& choices) const;

 private:
  std::string path_;
  std::string card_;  // name and compute capability
  std::string kind_;
  std::string made_by_;  // driver, library and program
};

}  // namespace liveavatar::cuda
