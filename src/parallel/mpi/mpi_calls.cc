#include "parallel/mpi/mpi_calls.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <thread>

namespace liveavatar::mpi {
namespace {

constexpr size_t kPieceBytes = size_t{1} << 30;

// What Open MPI reads when it begins; what the user has set stays. Messages of 128 KiB go at once, not after two
// answers of the other side: between machines that are 10 ms apart 64 KiB take 14 ms instead of 36.
void set_parameters() {
  constexpr int kKeepWhatIsSet = 0;
  constexpr const char* kAtOnceBytes = "135168";  // and room for a header
  setenv("OMPI_MCA_mpi_yield_when_idle", "1", kKeepWhatIsSet);
  setenv("OMPI_MCA_btl_tcp_eager_limit", kAtOnceBytes, kKeepWhatIsSet);
  setenv("OMPI_MCA_btl_tcp_rndv_eager_limit", kAtOnceBytes, kKeepWhatIsSet);
  setenv("OMPI_MCA_btl_tcp_max_send_size", "262144", kKeepWhatIsSet);
}

// Open MPI 4 hands its long messages to mpirun and waits, inside of MPI_Test, until that has printed them: while mpirun
// ends a job it does not, and a lead whose peer died would never say so. They are printed here instead.
using ShowHelp = int(const char* file, const char* topic, bool header, ...);
using HelpText = char*(const char* file, const char* topic, bool header, va_list arguments);
HelpText* g_help_text = nullptr;

int show_help(const char* file, const char* topic, bool header, ...) {
  va_list arguments;
  va_start(arguments, header);
  char* text = g_help_text(file, topic, header, arguments);
  va_end(arguments);
  if (text != nullptr) std::fputs(text, stderr);
  std::free(text);
  return 0;
}

void print_help_here() {
  if (OMPI_MAJOR_VERSION != 4) return;
  Dl_info place{};
  if (dladdr(reinterpret_cast<void*>(&MPI_Init_thread), &place) == 0) return;
  void* mpi = dlopen(place.dli_fname, RTLD_LAZY | RTLD_NOLOAD);  // with the libraries that it needs
  if (mpi == nullptr) return;
  auto* handler = static_cast<ShowHelp**>(dlsym(mpi, "opal_show_help"));
  g_help_text = reinterpret_cast<HelpText*>(dlsym(mpi, "opal_show_help_vstring"));
  if (handler != nullptr && g_help_text != nullptr) *handler = show_help;
}

}  // namespace

Expected<std::unique_ptr<Mpi>> Mpi::begin() {
  int begun = 0;
  MPI_Initialized(&begun);
  if (begun != 0) return invalid_argument("MPI has begun in this process already: a process is one rank once");
  set_parameters();
  int level = MPI_THREAD_SINGLE;
  if (const int error = MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &level); error != MPI_SUCCESS)
    return unsupported("MPI does not begin: " + error_text(error));
  if (level != MPI_THREAD_MULTIPLE)
    return unsupported("this MPI has no MPI_THREAD_MULTIPLE: install an Open MPI that has it");
  print_help_here();
  std::unique_ptr<Mpi> mpi(new Mpi);
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  for (MPI_Comm* own : {&mpi->messages_, &mpi->beats_})
    if (const int error = MPI_Comm_dup(MPI_COMM_WORLD, own); error != MPI_SUCCESS)
      return unsupported("MPI does not begin: " + error_text(error));
  MPI_Comm_rank(MPI_COMM_WORLD, &mpi->rank_);
  MPI_Comm_size(MPI_COMM_WORLD, &mpi->size_);
  return mpi;
}

void Mpi::freeze() {
  frozen_ = true;
  std::unique_lock those_inside(mutex_);
}

void Mpi::finalize() {
  call([&] {
    MPI_Comm_free(&messages_);
    MPI_Comm_free(&beats_);
    MPI_Finalize();
  });
  freeze();
}

std::string error_text(int error) {
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(error, text, &length);
  return text;
}

template <typename Begin>
void Transfer::begin(Mpi& mpi, size_t bytes, const Begin& piece) {
  pieces_.clear();
  next_ = received_ = 0;
  error_ = MPI_SUCCESS;
  size_t offset = 0;
  do {  // an empty message is a message
    const size_t count = std::min(kPieceBytes, bytes - offset);
    MPI_Request request = MPI_REQUEST_NULL;
    mpi.call([&] { error_ = piece(offset, static_cast<int>(count), &request); });
    if (error_ != MPI_SUCCESS) return;
    pieces_.push_back(request);
    offset += count;
  } while (offset < bytes);
}

// Synchronous: it is done when the receiver takes it. Else small blocks would pile up unseen on a slower rank.
void Transfer::send(Mpi& mpi, int to, int tag, std::span<const std::byte> data) {
  begin(mpi, data.size(), [&](size_t offset, int count, MPI_Request* request) {
    return MPI_Issend(data.data() + offset, count, MPI_BYTE, to, tag, mpi.messages(), request);
  });
}

void Transfer::receive(Mpi& mpi, int from, int tag, std::span<std::byte> data) {
  begin(mpi, data.size(), [&](size_t offset, int count, MPI_Request* request) {
    return MPI_Irecv(data.data() + offset, count, MPI_BYTE, from, tag, mpi.messages(), request);
  });
}

bool Transfer::done(Mpi& mpi) {
  while (next_ < pieces_.size()) {
    int ended = 0, error = MPI_SUCCESS, count = 0;
    MPI_Status status;
    mpi.call([&] {
      error = MPI_Test(&pieces_[next_], &ended, &status);
      if (ended != 0) MPI_Get_count(&status, MPI_BYTE, &count);
    });
    if (error != MPI_SUCCESS) error_ = error;
    if (ended == 0 && error == MPI_SUCCESS) return false;
    if (count > 0) received_ += static_cast<size_t>(count);
    ++next_;
  }
  return true;
}

void Transfer::cancel(Mpi& mpi) {
  mpi.call([&] {
    for (size_t piece = next_; piece < pieces_.size(); ++piece) MPI_Cancel(&pieces_[piece]);
  });
}

// A fiftieth of what was waited already: that much later a message is seen.
void Pause::next() {
  constexpr double kSpin_s = 50e-6, kShortest_s = 5e-6, kLongest_s = 300e-6, kPart = 0.02;
  const double waited_s = seconds_since(began_);
  sleeps_ = waited_s > kSpin_s;
  if (!sleeps_) return;
  const double sleep_s = std::clamp(waited_s * kPart, kShortest_s, kLongest_s);
  std::this_thread::sleep_for(std::chrono::duration<double>(sleep_s));
}

}  // namespace liveavatar::mpi
