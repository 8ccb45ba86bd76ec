#include "models/s2v_dit/packed.h"

#include <algorithm>
#include <span>

namespace liveavatar {
namespace {

constexpr const char* kModel = "s2v_dit";

const char* part_name(DitPart part) {
  switch (part) {
    case DitPart::kTime:
      return "time projection";
    case DitPart::kPromptIn:
      return "prompt in";
    case DitPart::kPromptOut:
      return "prompt out";
    case DitPart::kSelfAttention:
      return "self attention";
    case DitPart::kSelfOutput:
      return "self attention output";
    case DitPart::kTextKeys:
      return "keys of the prompt";
    case DitPart::kCrossAttention:
      return "cross attention";
    case DitPart::kFfnIn:
      return "ffn in";
    case DitPart::kFfnOut:
      return "ffn out";
    case DitPart::kAudioKeys:
      return "keys of the audio";
    case DitPart::kAudioShift:
      return "audio injector shift";
    case DitPart::kAudioScale:
      return "audio injector scale";
    case DitPart::kAudioAttention:
      return "audio injector";
  }
  LA_CHECK(false);
}

std::string page_name(const DitWeightGroup& group) {
  const std::string part = part_name(group.part);
  if (group.part == DitPart::kPromptIn || group.part == DitPart::kPromptOut) return part;
  const char* of = group.part == DitPart::kTime ? "row " : "layer ";
  return of + std::to_string(group.layer) + " " + part;
}

// The name in the header and in messages: BF16, or BF16 with I8.
std::string name_of(const DitTypes& types) {
  std::string values = dtype_name(types.values);
  return types.weights == types.values ? values : values + " with " + dtype_name(types.weights);
}

}  // namespace

void load_dit_page(const DitConfig& config, size_t page, const std::vector<DitWeightGroup>& groups,
                   WeightVisitor& visitor) {
  if (page == 0) {
    load_dit_common(config, visitor);
  } else {
    load_dit_group(config, groups[page - 1], visitor);
  }
}

std::vector<PackedPage> dit_packed_pages(const DitConfig& config, const Backend& backend, const DitTypes& types) {
  const std::vector<DitWeightGroup> pages = dit_weight_groups(config);
  std::vector<PackedPage> packed;
  for (size_t p = 0; p <= pages.size(); ++p) {
    WeightViews views(backend, types);
    load_dit_page(config, p, pages, views);
    packed.push_back({p == 0 ? "common" : page_name(pages[p - 1]), {0, DirectFile::round_up(views.bytes())}});
  }
  return packed;
}

Status pack_dit(const DitConfig& config, const TensorSource& source, const Backend& backend, Budget& budget,
                const PackJob& job) {
  PackedHeader header;
  header.model = kModel;
  header.packing = backend.packing();
  header.dtype = name_of(job.types);
  header.config = dit_config_json(config);
  header.source = source.where();
  header.pages = dit_packed_pages(config, backend, job.types);
  for (const auto& [name, shape] : dit_tensors(config, backend)) header.tensors.push_back({name, shape});
  auto created = job.file == nullptr ? PackedWriter::create(job.path, std::move(header))
                                     : PackedWriter::create(std::move(*job.file), std::move(header));
  LA_ASSIGN_OR_RETURN(std::unique_ptr<PackedWriter> writer, std::move(created));
  const uint64_t all = writer->header().file_bytes();
  WeightLoader loader(source, backend, budget.host(), MemoryCategory::kWeights, job.types);
  auto show = [&](const PackedPage& page, const std::byte* data) -> Status {
    if (job.progress && !job.progress(page.span.offset, all)) return cancelled("stopped on request");
    return writer->append(data);
  };
  LA_RETURN_IF_ERROR(pack_dit_pages(config, writer->header().pages, loader, budget.host(), show));
  return writer->finish();
}

Status pack_dit_pages(const DitConfig& config, const std::vector<PackedPage>& packed, WeightAllocator& loader,
                      Budget& budget, const std::function<Status(const PackedPage&, const std::byte*)>& show) {
  const std::vector<DitWeightGroup> pages = dit_weight_groups(config);
  for (size_t p = 0; p < packed.size(); ++p) {
    LA_ASSIGN_OR_RETURN(Buffer page, Buffer::allocate(budget, MemoryCategory::kWeights, packed[p].span.bytes));
    loader.place_in(PackedMemory(page));
    load_dit_page(config, p, pages, loader);
    LA_RETURN_IF_ERROR(loader.status());
    LA_RETURN_IF_ERROR(show(packed[p], page.data()));
  }
  return {};
}

std::vector<PageSpan> PackedDit::spans() const {
  std::vector<PageSpan> spans;
  for (size_t p = 1; p < header.pages.size(); ++p) spans.push_back(header.pages[p].span);
  return spans;
}

Expected<HostDit> HostDit::load(const DitConfig& config, const DitTypes& types, const Backend& backend,
                                WeightAllocator& loader, Budget& budget) {
  HostDit dit;
  const std::vector<DitWeightGroup> pages = dit_weight_groups(config);
  for (const PackedPage& packed : dit_packed_pages(config, backend, types)) {
    const size_t p = dit.pages.size();
    auto allocate = p == 0 ? Buffer::allocate : Buffer::allocate_staging;
    LA_ASSIGN_OR_RETURN(Buffer page, allocate(budget, MemoryCategory::kWeights, packed.span.bytes));
    loader.place_in(PackedMemory(page));
    load_dit_page(config, p, pages, loader);
    LA_RETURN_IF_ERROR(loader.status());
    dit.pages.push_back(std::move(page));
  }
  return dit;
}

DitPages HostDit::layers(const DitConfig& config, const DitTypes& types, bool dry_run) const {
  DitPages layers{.config = config, .types = types, .in_host = true};
  for (size_t p = 1; p < pages.size(); ++p) layers.spans.push_back({0, pages[p].bytes()});
  if (!dry_run) layers.store = std::make_unique<HostPages>(std::span(pages).subspan(1));
  return layers;
}

Expected<DitPages> PackedDit::pages(bool dry_run) const {
  DitPages pages{.config = config, .types = types, .spans = spans()};
  if (dry_run) return pages;
  LA_ASSIGN_OR_RETURN(std::unique_ptr<DirectFile> file, DirectFile::open(path));
  pages.file = file.get();
  pages.store = std::make_unique<FilePages>(std::move(file), pages.spans);
  return pages;
}

Expected<PackedDit> PackedDit::open(const std::string& path, const Backend& backend, const DitTypes& types) {
  PackedDit packed;
  packed.path = path;
  packed.types = types;
  LA_ASSIGN_OR_RETURN(packed.header, read_packed_header(path));
  const PackedHeader& h = packed.header;
  if (h.model != kModel) return corrupt(path + ": holds " + h.model + ", not a video model");
  if (h.dtype != name_of(types)) {
    return invalid_argument(path + ": holds " + h.dtype + ", " + name_of(types) +
                            " is wanted; give the `dtype` and `weights_dtype` it was converted with, or convert again");
  }
  if (h.packing != backend.packing()) {
    return unsupported(path + ": is packed as " + h.packing + ", the kernels chosen here read " + backend.packing() +
                       "; run `liveavatar convert` on this machine, with this `device`");
  }
  LA_ASSIGN_OR_RETURN(packed.config, parse_dit_config(h.config, path));
  std::vector<PackedPage> want = dit_packed_pages(packed.config, backend, types);
  bool same = want.size() == h.pages.size();
  for (size_t p = 0; same && p < want.size(); ++p) same = want[p].span.bytes == h.pages[p].span.bytes;
  if (!same) return corrupt(path + ": its pages are not those of its config; run `liveavatar convert` again");
  return packed;
}

PackedDit PackedDit::planned(const DitConfig& config, const Backend& backend, const DitTypes& types) {
  PackedDit packed;
  packed.header.pages = dit_packed_pages(config, backend, types);
  packed.config = config;
  packed.types = types;
  return packed;
}

namespace {

// Memory is for what every forward reads: the other groups stay in the store, or in host memory if all layers are in
// memory of one kind or the other.
PagePlace place_of(const DitWeightGroup& group, const DitConfig& config, const Residency& residency) {
  if (reading_of(group.part) == DitReading::kAlways) return place_when_spread(group.layer, config.layers, residency);
  if (residency.device >= config.layers) return PagePlace::kDevice;
  return residency.device + residency.host >= config.layers ? PagePlace::kHost : PagePlace::kStore;
}

}  // namespace

void PassBytes::add(DitPart part, uint64_t bytes, PagePlace place) {
  const DitReading reading = reading_of(part);
  if (place == PagePlace::kDevice || place == PagePlace::kLent) {
    if (reading != DitReading::kAlways) resting += bytes;
    return;
  }
  if (reading == DitReading::kNewPrompt || reading == DitReading::kNewTimestep) return;  // once a video
  PageBytes& to = reading == DitReading::kAlways ? pass : block;
  to.all += bytes;
  if (place == PagePlace::kStore) to.disk += bytes;
}

PassBytes paged_bytes(const DitConfig& config, const std::vector<PageSpan>& spans, const Residency& residency) {
  PassBytes bytes;
  const std::vector<DitWeightGroup> pages = dit_weight_groups(config);
  for (size_t p = 0; p < pages.size(); ++p)
    bytes.add(pages[p].part, spans[p].bytes, place_of(pages[p], config, residency));
  return bytes;
}

DitCommonWeights view_dit_common(const DitConfig& config, const Backend& backend, const DitTypes& types,
                                 const Buffer& page) {
  WeightViews views(backend, types, PackedMemory(page));
  return load_dit_common(config, views);
}

namespace {

Expected<PageMemory> allocate_pages(const DitPages& pages, const DitAccess& access, Budget& budget) {
  PageMemory::Layout layout;
  if (access.forwards > 1) ++layout.slots;  // these use two groups by turns, while the next is read
  layout.store_in_host = pages.in_host;
  for (const DitWeightGroup& group : dit_weight_groups(pages.config))
    layout.places.push_back(place_of(group, pages.config, access.residency));
  for (size_t p = 0; p < pages.own.size(); ++p)  // a shard
    layout.places[p] = pages.own[p] != 0 ? PagePlace::kLent : PagePlace::kStore;
  for (const PageSpan& span : pages.spans) layout.bytes.push_back(span.bytes);
  return PageMemory::allocate(layout, budget);
}

}  // namespace

Expected<std::unique_ptr<PagedWeightGroups>> PagedWeightGroups::open(DitPages pages, const DitAccess& access,
                                                                     Backend& backend, Budget& budget,
                                                                     const std::stop_token& stop) {
  std::unique_ptr<PagedWeightGroups> paged(new PagedWeightGroups);
  paged->groups_ = dit_weight_groups(pages.config);
  paged->file_ = pages.file;
  LA_ASSIGN_OR_RETURN(PageMemory memory, allocate_pages(pages, access, budget));
  if (budget.dry_run()) {
    paged->dry_run_memory_ = std::move(memory);
    return paged;
  }
  if (!pages.lent.empty()) memory.lent = pages.lent;
  for (size_t p = 0; p < paged->groups_.size(); ++p) {
    std::vector<View> views;
    auto add = [&](std::byte* data) {
      WeightViews page(backend, pages.types, PackedMemory(data, memory.device()));
      views.push_back({data, load_dit_group(pages.config, paged->groups_[p], page)});
    };
    if (memory.stays(p) != nullptr) {
      add(memory.stays(p));
    } else {
      for (const Buffer& slot : memory.slots) add(slot.data());
    }
    paged->views_.push_back(std::move(views));
  }
  paged->pager_ = std::make_unique<Pager>(std::move(pages.store), std::move(memory), backend);
  LA_RETURN_IF_ERROR(paged->pager_->read_resident(stop));
  return paged;
}

const DitGroupWeights& PagedWeightGroups::acquire(size_t group) {
  const std::byte* data = pager_->acquire(group);
  const std::vector<View>& views = views_[group];
  auto view = std::find_if(views.begin(), views.end(), [&](const View& v) { return v.data == data; });
  LA_CHECK(view != views.end());
  return view->weights;
}

void PagedWeightGroups::expect(const DitUses& uses) {
  if (uses_ == uses) return;
  uses_ = uses;
  std::vector<size_t> pages;
  for (size_t p = 0; p < groups_.size(); ++p) {
    if (uses.of(groups_[p].part)) pages.push_back(p);
  }
  pager_->expect(std::move(pages));
}

}  // namespace liveavatar
