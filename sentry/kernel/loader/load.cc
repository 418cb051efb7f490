// SPDX-License-Identifier: Apache-2.0
// Finding the program behind scripts, and mapping it with its interpreter into a fresh process.
#include <cpuid.h>
#include <elf.h>
#include <sys/mman.h>

#include <algorithm>

#include "sentry/kernel/loader/elf.h"
#include "sentry/kernel/loader/loader.h"
#include "sentry/kernel/loader/script.h"
#include "sentry/kernel/loader/stack.h"

#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

namespace sentry::kernel {

namespace {

constexpr uint64_t kPage = platform::kPageSize;
constexpr size_t kHeadBytes = 4096;          // holds the headers of nearly every program: one read
constexpr int kMaxScripts = 5;               // Linux: exec_binprm(), depth > 5
constexpr uint64_t kPieBase = 0x555555554000;
constexpr uint64_t kPatchGap = patch::kRoom;  // free after text, for what patched call sites jump to
constexpr uint64_t kStackRandom = 16ull << 30;
constexpr uint64_t kMaxStackReserve = 256ull << 20;  // beyond, the stack grows by faults
constexpr Errno kELIBBAD{ELIBBAD};

constexpr uint64_t page_up(uint64_t v) { return (v + kPage - 1) & ~(kPage - 1); }
constexpr uint64_t page_down(uint64_t v) { return v & ~(kPage - 1); }

// Up to n bytes at offset; fewer only at the end of the file.
Result<std::string> read_at(vfs::File& file, uint64_t offset, size_t n) {
  std::string out(n, '\0');
  size_t done = 0;
  auto pos = static_cast<int64_t>(offset);
  while (done < n) {
    size_t got = TRY(file.read(std::as_writable_bytes(std::span(out.data() + done, n - done)), &pos, {}));
    if (got == 0) break;
    done += got;
  }
  out.resize(done);
  return out;
}

// The same, from the bytes that were read first where they suffice.
Result<std::string> read_part(vfs::File& file, const std::string& head, uint64_t offset, size_t n) {
  if (offset <= head.size() && n <= head.size() - offset) return head.substr(offset, n);
  return read_at(file, offset, n);
}

std::span<const std::byte> bytes_of(const std::string& s) { return std::as_bytes(std::span(s.data(), s.size())); }

Result<ElfPlan> read_plan(vfs::File& file, const std::string& head) {
  ElfHeader header = TRY(parse_elf_header(bytes_of(head)));
  std::string phdrs = TRY(read_part(file, head, header.phdr_offset, header.phdr_bytes()));
  if (phdrs.size() != header.phdr_bytes()) return kENOEXEC;
  return parse_elf_segments(header, bytes_of(phdrs));
}

// What mapping a file needs.
struct Image {
  Ref<mm::Mappable> mappable;
  ElfPlan plan;
  uint64_t bias = 0;
  bool patch_room = false;  // of a program, brk's gap is the room
};

Result<void> map_image(platform::Context& fresh, mm::AddressSpace& space, const Image& image) {
  for (const ElfSegment& s : image.plan.segments) {
    mm::MapRequest r;
    r.patch_room = image.patch_room;
    if (s.file_end > s.file_start) {
      r.address = s.file_start + image.bias;
      r.length = s.file_end - s.file_start;
      r.prot = s.prot;
      r.flags = MAP_PRIVATE | MAP_FIXED;
      r.file = image.mappable;
      r.offset = s.file_offset;
      TRY(space.map(fresh, r));
    }
    if (s.anon_end > s.anon_start) {
      r.address = s.anon_start + image.bias;
      r.length = s.anon_end - s.anon_start;
      r.prot = s.anon_prot;
      r.flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
      r.file = nullptr;
      r.offset = 0;
      TRY(space.map(fresh, r));
    }
  }
  return {};
}

Result<void> clear_tails(platform::Context& fresh, const Image& image) {
  for (const ElfSegment& s : image.plan.segments)
    if (s.zero_to > s.zero_from) TRY(fresh.queue_zero_out(s.zero_from + image.bias, s.zero_to - s.zero_from));
  return {};
}

// The whole span must be free where it goes; its parts are then mapped one over the other, as their order says.
Result<void> place_at(platform::Context& fresh, mm::AddressSpace& space, Image& image, uint64_t address) {
  uint64_t length = image.plan.high - image.plan.low;
  if (address < platform::kMinAddress) return kEPERM;
  if (address > platform::kAppLimit || length > platform::kAppLimit - address) return kENOMEM;
  if (TRY(space.find_free(fresh, address, length, kPage, false)) != address) return kENOMEM;
  image.bias = address - image.plan.low;
  return {};
}

Result<void> place_anywhere(platform::Context& fresh, mm::AddressSpace& space, Image& image) {
  uint64_t length = image.plan.high - image.plan.low;
  image.patch_room = true;
  image.bias = TRY(space.find_free(fresh, 0, length, image.plan.align, true)) - image.plan.low;
  return {};
}

uint64_t align_down(uint64_t v, uint64_t align) { return v & ~(align - 1); }

uint32_t hardware_capabilities() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  __get_cpuid(1, &a, &b, &c, &d);
  return d;
}

// Where things go. Private mappings stay within reach of fixed layouts (thread sanitizer: above 0x7e8000000000), so there is
// less randomness than on Linux: 24 bits for mappings, 22 for the stack.
struct Addresses {
  uint64_t stack_top;
  mm::AddressSpace::Layout layout;
  uint64_t pie;
  uint64_t brk_slack;
};

Addresses choose_addresses(const LoadParameters& p) {
  auto random = [&](int i, uint64_t pages) { return p.randomize ? p.random[static_cast<size_t>(i)] % pages * kPage : 0; };
  constexpr uint64_t kHuge = 2 << 20;
  Addresses a{};
  // The stack's top lies in the second half of a 2 MiB block, so that the host never makes a huge page of its first pages.
  a.stack_top = align_down(platform::kSharedBase - kHuge - random(2, kStackRandom / kPage), kHuge) + kHuge / 2 +
                random(3, kHuge / 2 / kPage);
  uint64_t gap = std::clamp<uint64_t>(p.limits.stack, 128ull << 20, 64ull << 30);
  a.layout.private_top = page_down(platform::kSharedBase - kStackRandom - kHuge * 2 - gap - random(4, 1 << 24));
  a.layout.shared_top = platform::kAppLimit - random(5, 1 << 22);
  a.pie = kPieBase + random(6, 1 << 28);
  a.brk_slack = random(7, (32 << 20) / kPage);
  return a;
}

Result<Ref<mm::Mappable>> mappable_of(vfs::File& file) {
  auto m = file.mappable();
  if (!m.ok()) return m.error() == kENODEV ? kENOEXEC : m.error();
  return std::move(m).value();
}

struct Interpreter {
  Ref<vfs::File> file;
  Image image;
};

Result<Interpreter> open_interpreter(vfs::File& program, const std::string& head, const ElfPlan::Interpreter& where,
                                     ProgramOpener& opener) {
  std::string path = TRY(read_part(program, head, where.offset, where.size));
  if (path.size() != where.size) return kEIO;
  if (path.back() != '\0') return kENOEXEC;
  path.resize(path.find('\0'));
  Ref<vfs::File> file = TRY(opener.open_program(path));
  std::string its_head = TRY(read_at(*file, 0, kHeadBytes));
  if (its_head.size() < sizeof(Elf64_Ehdr)) return kEIO;
  auto plan = read_plan(*file, its_head);
  if (!plan.ok()) return plan.error() == kENOEXEC ? kELIBBAD : plan.error();
  auto mappable = mappable_of(*file);
  if (!mappable.ok()) return mappable.error() == kENOEXEC ? kELIBBAD : mappable.error();
  Image image{std::move(mappable).value(), std::move(plan).value()};
  return Interpreter{std::move(file), std::move(image)};
}

}  // namespace

Result<ResolvedProgram> resolve_program(ExecRequest request, ProgramOpener& opener) {
  Ref<vfs::File> file = std::move(request.program);
  std::vector<std::string> args = std::move(request.args);
  if (args.empty()) args.emplace_back();
  std::string name = request.filename;
  for (int depth = 0;; depth++) {
    std::string head = TRY(read_at(*file, 0, kHeadBytes));
    if (!head.starts_with("#!")) {
      TRY(parse_elf_header(bytes_of(head)));
      return ResolvedProgram{std::move(file), std::move(request.filename), std::move(args), std::move(request.env), std::move(head)};
    }
    ScriptLine line = TRY(parse_script(head));
    if (request.path_inaccessible) return kENOENT;
    if (depth >= kMaxScripts) return kELOOP;
    if (line.interpreter.empty()) return kEACCES;
    // interpreter [argument] script arguments…; the script's own argv[0] is gone.
    std::vector<std::string> now{line.interpreter};
    if (line.has_argument) now.push_back(std::move(line.argument));
    now.push_back(std::move(name));
    for (size_t i = 1; i < args.size(); i++) now.push_back(std::move(args[i]));
    args = std::move(now);
    file = TRY(opener.open_program(line.interpreter));
    name = std::move(line.interpreter);
  }
}

Result<LoadedProgram> load_program(platform::Context& fresh, mm::AddressSpace& space, const ResolvedProgram& program,
                                   ProgramOpener& opener, const LoadParameters& p) {
  vfs::File& file = *program.file;
  ElfPlan plan = TRY(read_plan(file, program.head));
  Image main{TRY(mappable_of(file)), std::move(plan)};
  std::optional<Interpreter> interpreter;
  if (main.plan.interpreter) interpreter = TRY(open_interpreter(file, program.head, *main.plan.interpreter, opener));

  Addresses where = choose_addresses(p);
  space.set_layout(where.layout);

  // Places first; every auxiliary value depends on them.
  bool pie = main.plan.header.position_independent;
  if (!pie) {
    TRY(place_at(fresh, space, main, main.plan.low));
  } else if (interpreter) {
    uint64_t base = align_down(where.pie, main.plan.align);
    TRY(place_at(fresh, space, main, base));
  } else {
    TRY(place_anywhere(fresh, space, main));  // a loader run by hand, static PIE: out of the way of what it may load
  }

  StackInput in;
  in.top = where.stack_top;
  in.args = &program.args;
  in.env = &program.env;
  in.filename = &program.filename;
  in.random = {p.random[0], p.random[1]};
  in.jitter = p.randomize ? p.random[2] >> 40 : 0;

  // The stack: mapped in full, shown as it is used.
  uint64_t arguments = max_argument_bytes(p.limits.stack);
  uint64_t reserve = std::clamp<uint64_t>(page_up(std::min(p.limits.stack, kMaxStackReserve)), 256 * 1024, kMaxStackReserve);
  reserve = std::max(reserve, page_up(arguments) + 128 * 1024);
  mm::MapRequest stack;
  stack.address = where.stack_top - reserve;
  stack.length = reserve;
  stack.prot = PROT_READ | PROT_WRITE | (main.plan.executable_stack ? PROT_EXEC : 0);
  stack.flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE | MAP_STACK | MAP_GROWSDOWN;
  stack.name = "[stack]";
  TRY(space.map(fresh, stack));
  space.note_stack_pointer(where.stack_top - 16);
  space.set_limits(p.limits);

  TRY(map_image(fresh, space, main));
  if (interpreter) {
    TRY(place_anywhere(fresh, space, interpreter->image));
    TRY(map_image(fresh, space, interpreter->image));
  }

  const auth::Credentials& c = p.credentials;
  auto& aux = in.auxv;
  if (p.vdso_address != 0) aux.emplace_back(AT_SYSINFO_EHDR, p.vdso_address);
  aux.emplace_back(AT_MINSIGSTKSZ, platform::Context::signal_frame_size());
  aux.emplace_back(AT_HWCAP, hardware_capabilities());
  aux.emplace_back(AT_PAGESZ, kPage);
  aux.emplace_back(AT_CLKTCK, 100);
  aux.emplace_back(AT_PHDR, main.plan.phdr_address != 0 ? main.plan.phdr_address + main.bias : 0);
  aux.emplace_back(AT_PHENT, sizeof(Elf64_Phdr));
  aux.emplace_back(AT_PHNUM, main.plan.header.phdr_count);
  aux.emplace_back(AT_BASE, interpreter ? interpreter->image.bias : 0);
  aux.emplace_back(AT_FLAGS, 0);
  aux.emplace_back(AT_ENTRY, main.plan.header.entry + main.bias);
  aux.emplace_back(AT_UID, c.uid);
  aux.emplace_back(AT_EUID, c.euid);
  aux.emplace_back(AT_GID, c.gid);
  aux.emplace_back(AT_EGID, c.egid);
  aux.emplace_back(AT_SECURE, p.secure ? 1 : 0);
  // No FSGSBASE: GS base belongs to the platform, so programs must not learn that they could set it.
  aux.emplace_back(AT_HWCAP2, 0);
  StackImage image = TRY(build_stack(in, arguments));

  TRY(clear_tails(fresh, main));
  if (interpreter) TRY(clear_tails(fresh, interpreter->image));
  TRY(fresh.copy_out_now(image.stack_pointer, image.bytes.data(), image.bytes.size()));
  const bool copied = !fresh.take_copy_failed();
  if (int e = fresh.take_memory_call_error(); e > 0) return Errno(e);
  if (!copied) return kEFAULT;

  space.note_stack_pointer(image.stack_pointer);
  uint64_t brk = pie && !interpreter ? page_down(where.pie) : page_up(main.plan.end + main.bias) + kPatchGap;
  space.set_brk_start(brk + where.brk_slack);
  if (p.vdso_address != 0) space.set_vdso(p.vvar_address, p.vdso_address, p.vvar_address + p.vdso_length);
  space.arg_start = image.arg_start;
  space.arg_end = image.arg_end;
  space.env_start = image.env_start;
  space.env_end = image.env_end;
  space.stack_start = image.stack_pointer;
  space.code_start = main.plan.code_start + main.bias;
  space.code_end = main.plan.code_end + main.bias;
  space.auxv = std::move(image.auxv);
  space.executable = main.mappable;
  uint64_t entry = interpreter ? interpreter->image.plan.header.entry + interpreter->image.bias
                               : main.plan.header.entry + main.bias;
  return LoadedProgram{entry, image.stack_pointer};
}

}  // namespace sentry::kernel
