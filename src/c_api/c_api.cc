// The C API over the C++ one: pointers are checked, texts are copied, and every error becomes a code and a line.
#include <cstdlib>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "c_api/fields.h"
#include "c_api/objects.h"

using liveavatar::call;
using liveavatar::ErrorCode;
using liveavatar::make;
using liveavatar::not_null;
using liveavatar::Status;

struct la_engine_options {
  liveavatar::EngineOptions options;
};
struct la_request {
  liveavatar::GenerateRequest request;
};
struct la_video_file {
  std::unique_ptr<liveavatar::VideoFile> file;
  std::string encoder;
};

namespace {

static_assert(LA_INVALID_ARGUMENT == static_cast<int>(ErrorCode::kInvalidArgument));
static_assert(LA_NOT_FOUND == static_cast<int>(ErrorCode::kNotFound));
static_assert(LA_CORRUPT == static_cast<int>(ErrorCode::kCorrupt));
static_assert(LA_OUT_OF_MEMORY == static_cast<int>(ErrorCode::kOutOfMemory));
static_assert(LA_IO == static_cast<int>(ErrorCode::kIo));
static_assert(LA_CANCELLED == static_cast<int>(ErrorCode::kCancelled));
static_assert(LA_UNSUPPORTED == static_cast<int>(ErrorCode::kUnsupported));

// With the lines that the public part points to.
struct OwnedInfo : la_job_info {
  std::vector<std::string> texts;
  std::vector<const char*> lines;
};

// A la_generate for as long as it runs: la_engine_stop reaches it.
class Stoppable {
 public:
  explicit Stoppable(la_engine& engine) : engine_(engine) {
    const std::lock_guard lock(engine_.mutex);
    engine_.running.push_back(source_);
  }
  Stoppable(const Stoppable&) = delete;
  Stoppable& operator=(const Stoppable&) = delete;
  ~Stoppable() {
    const std::lock_guard lock(engine_.mutex);
    std::erase(engine_.running, source_);
  }
  std::stop_token token() const { return source_.get_token(); }

 private:
  la_engine& engine_;
  std::stop_source source_;
};

la_job_info* owned_info(const liveavatar::JobInfo& info) {
  auto owned = std::make_unique<OwnedInfo>();
  owned->texts = info.notes;
  for (const std::string& text : owned->texts) owned->lines.push_back(text.c_str());
  static_cast<la_job_info&>(*owned) = {
      info.width,          info.height,         info.fps,
      info.frames,         info.blocks,         info.clips,
      owned->lines.size(), owned->lines.data(), liveavatar::video_encoder_name(info.video_encoder),
      info.video_card};
  return owned.release();
}

}  // namespace

const char* la_version(void) { return liveavatar::version(); }

void la_free(char* message) { std::free(message); }

la_engine_options* la_engine_options_new(void) { return make<la_engine_options>(); }
void la_engine_options_free(la_engine_options* options) { delete options; }

la_code la_engine_options_set(la_engine_options* options, const char* name, const char* value, char** message) {
  return call("la_engine_options_set", message, [&]() -> Status {
    LA_RETURN_IF_ERROR(not_null(options, "la_engine_options_set: options"));
    LA_RETURN_IF_ERROR(not_null(name, "la_engine_options_set: name"));
    LA_RETURN_IF_ERROR(not_null(value, name));
    return set_field(options->options, name, value);
  });
}

la_request* la_request_new(void) { return make<la_request>(); }
void la_request_free(la_request* request) { delete request; }

la_code la_request_set(la_request* request, const char* name, const char* value, char** message) {
  return call("la_request_set", message, [&]() -> Status {
    LA_RETURN_IF_ERROR(not_null(request, "la_request_set: request"));
    LA_RETURN_IF_ERROR(not_null(name, "la_request_set: name"));
    LA_RETURN_IF_ERROR(not_null(value, name));
    return set_field(request->request, name, value);
  });
}

la_code la_request_set_progress(la_request* request, la_progress_callback callback, void* user, char** message) {
  return call("la_request_set_progress", message, [&]() -> Status {
    LA_RETURN_IF_ERROR(not_null(request, "la_request_set_progress: request"));
    request->request.on_progress = nullptr;
    if (callback == nullptr) return {};
    request->request.on_progress = [callback, user](const liveavatar::Progress& p) {
      const la_progress progress{
          liveavatar::stage_name(p.stage), p.block, p.blocks, p.frames_done, p.frames, p.retried_block};
      callback(&progress, user);
    };
    return {};
  });
}

la_code la_engine_load(const la_engine_options* options, la_engine** engine, char** message) {
  return call("la_engine_load", message, [&]() -> Status {
    LA_RETURN_IF_ERROR(not_null(engine, "la_engine_load: engine"));
    *engine = nullptr;
    LA_RETURN_IF_ERROR(not_null(options, "la_engine_load: options"));
    LA_ASSIGN_OR_RETURN(auto loaded, liveavatar::Engine::load(options->options));
    *engine = new la_engine{std::move(loaded), {}, {}};
    return {};
  });
}

void la_engine_free(la_engine* engine) { delete engine; }

size_t la_engine_memory_used_bytes(const la_engine* engine) {
  return engine == nullptr ? 0 : engine->engine->memory_used_bytes();
}

size_t la_engine_memory_peak_bytes(const la_engine* engine) {
  return engine == nullptr ? 0 : engine->engine->memory_peak_bytes();
}

la_code la_describe(la_engine* engine, const la_request* request, la_job_info** info, char** message) {
  return call("la_describe", message, [&]() -> Status {
    LA_RETURN_IF_ERROR(not_null(info, "la_describe: info"));
    *info = nullptr;
    LA_RETURN_IF_ERROR(not_null(engine, "la_describe: engine"));
    LA_RETURN_IF_ERROR(not_null(request, "la_describe: request"));
    LA_ASSIGN_OR_RETURN(liveavatar::JobInfo described, engine->engine->describe(request->request));
    *info = owned_info(described);
    return {};
  });
}

void la_job_info_free(la_job_info* info) { delete static_cast<OwnedInfo*>(info); }

la_code la_generate(la_engine* engine, const la_request* request, la_chunk_callback on_chunk, void* user,
                    char** message) {
  return call("la_generate", message, [&]() -> Status {
    LA_RETURN_IF_ERROR(not_null(engine, "la_generate: engine"));
    LA_RETURN_IF_ERROR(not_null(request, "la_generate: request"));
    if (on_chunk == nullptr) return liveavatar::invalid_argument("la_generate: on_chunk is NULL");
    auto take = [on_chunk, user](const liveavatar::VideoChunk& c) {
      const la_chunk chunk{c.first_frame, c.frames, c.width, c.height, c.rgb};
      return on_chunk(&chunk, user) == 0;
    };
    const Stoppable stoppable(*engine);
    return engine->engine->generate(request->request, take, stoppable.token());
  });
}

void la_engine_stop(la_engine* engine) {
  if (engine == nullptr) return;
  const std::lock_guard lock(engine->mutex);
  for (std::stop_source& source : engine->running) source.request_stop();
}

la_code la_video_file_create(const char* path, const la_job_info* info, const char* audio, la_video_file** file,
                             char** message) {
  return call("la_video_file_create", message, [&]() -> Status {
    LA_RETURN_IF_ERROR(not_null(file, "la_video_file_create: file"));
    *file = nullptr;
    LA_RETURN_IF_ERROR(not_null(path, "la_video_file_create: path"));
    LA_RETURN_IF_ERROR(not_null(info, "la_video_file_create: info"));
    LA_RETURN_IF_ERROR(not_null(info->video_encoder, "la_video_file_create: info->video_encoder"));
    liveavatar::JobInfo wanted{info->width, info->height, info->fps, info->frames, info->blocks, info->clips, {}};
    LA_ASSIGN_OR_RETURN(wanted.video_encoder, liveavatar::parse_video_encoder(info->video_encoder));
    wanted.video_card = static_cast<int>(info->video_card);
    LA_ASSIGN_OR_RETURN(auto created, liveavatar::VideoFile::create(path, wanted, audio == nullptr ? "" : audio));
    std::string encoder = created->encoder();
    *file = new la_video_file{std::move(created), std::move(encoder)};
    return {};
  });
}

const char* la_video_file_encoder(const la_video_file* file) {
  return file == nullptr ? nullptr : file->encoder.c_str();
}

la_code la_video_file_append(la_video_file* file, const la_chunk* chunk, char** message) {
  return call("la_video_file_append", message, [&]() -> Status {
    LA_RETURN_IF_ERROR(not_null(file, "la_video_file_append: file"));
    LA_RETURN_IF_ERROR(not_null(chunk, "la_video_file_append: chunk"));
    return file->file->append({chunk->first_frame, chunk->frames, chunk->width, chunk->height, chunk->rgb});
  });
}

la_code la_video_file_finish(la_video_file* file, char** message) {
  return call("la_video_file_finish", message, [&]() -> Status {
    LA_RETURN_IF_ERROR(not_null(file, "la_video_file_finish: file"));
    return file->file->finish();
  });
}

void la_video_file_free(la_video_file* file) { delete file; }
