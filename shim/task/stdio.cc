// SPDX-License-Identifier: Apache-2.0
// Nothing here waits: a FIFO can be opened at once when the other side is open, and the shim opens both sides.
#include "shim/task/stdio.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/sys.h"

namespace shim::task {

using base::Fd;
using base::ResultX;
namespace sys = base::sys;

namespace {

enum class Blocking { yes, no };

ResultX<bool> is_fifo(const std::string& path) {
  struct stat st;
  if (::stat(path.c_str(), &st) != 0) return base::wrap(sys::from_libc(-1).error(), "standard stream " + path);
  return S_ISFIFO(st.st_mode);
}

ResultX<void> open_in(const std::string& path, Blocking blocking, Fd& in, Fd& hold) {
  if (path.empty() || in.valid()) return {};
  bool fifo = TRY(is_fifo(path));
  in = TRY_MSG(sys::open(path.c_str(), O_RDONLY | O_NONBLOCK), "open standard input {}", path);
  if (fifo) hold = TRY_MSG(sys::open(path.c_str(), O_WRONLY | O_NONBLOCK), "open standard input {}", path);
  if (blocking == Blocking::yes) TRY_MSG(sys::set_nonblocking(in.get(), false), "set up {}", path);
  return {};
}

ResultX<void> open_out(const std::string& name, Blocking blocking, Readers readers, Fd& out, Fd& hold) {
  if (name.empty() || out.valid()) return {};
  std::string path = name;
  size_t scheme = name.find("://");
  bool append = false;
  if (scheme != std::string::npos) {
    if (name.compare(0, scheme, "file") == 0) append = true;
    else if (name.compare(0, scheme, "fifo") != 0) {
      return base::error(base::kEOPNOTSUPP, "standard stream {}: only FIFOs, files and file:// are supported", name);
    }
    path = name.substr(scheme + 3);
    path = path.substr(0, path.find('?'));
  }
  int flags = O_WRONLY | (blocking == Blocking::no ? O_NONBLOCK : 0);
  if (append || !TRY(is_fifo(path))) {
    out = TRY_MSG(sys::open(path.c_str(), flags | O_APPEND | O_CREAT, 0600), "open standard stream {}", path);
    return {};
  }
  // A client that waits in open(2) counts as a reader.
  if (readers == Readers::needed) {
    out = TRY_MSG(sys::open(path.c_str(), O_WRONLY | O_NONBLOCK), "open standard stream {}", path);
    if (blocking == Blocking::yes) TRY_MSG(sys::set_nonblocking(out.get(), false), "set up {}", path);
    hold = TRY_MSG(sys::open(path.c_str(), O_RDONLY | O_NONBLOCK), "open standard stream {}", path);
    return {};
  }
  hold = TRY_MSG(sys::open(path.c_str(), O_RDONLY | O_NONBLOCK), "open standard stream {}", path);
  out = TRY_MSG(sys::open(path.c_str(), flags), "open standard stream {}", path);
  return {};
}

}  // namespace

ResultX<void> open_more(const StdioPaths& p, Readers readers, Stdio& s) {
  Blocking blocking = p.terminal ? Blocking::no : Blocking::yes;
  TRY(open_in(p.in, blocking, s.in, s.hold_in));
  TRY(open_out(p.out, blocking, readers, s.out, s.hold_out));
  if (p.terminal) return {};
  return open_out(p.err, blocking, readers, s.err, s.hold_err);
}

ResultX<Stdio> open_stdio(const StdioPaths& p, Readers readers) {
  Stdio s;
  TRY(open_more(p, readers, s));
  return s;
}

}  // namespace shim::task
