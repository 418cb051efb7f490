// SPDX-License-Identifier: Apache-2.0
// Decoding, dispatch by operation, encoding.
#include "gofer/server.h"

#include <sys/socket.h>

#include "base/sys.h"

namespace gofer {

using base::Result;
using namespace base;  // the errno constants
using wire::Op;

namespace {
Answer failure(uint64_t tag, Errno e) { return {Answer::Kind::reply, wire::encode_error(tag, e), {}}; }
}  // namespace

template <typename Request>
Answer Server::run(uint64_t tag, base::wire::Reader& body) {
  Request q;
  body(q);
  if (!body.finished()) return failure(tag, kEBADMSG);
  if (!files_.greeted() && Request::kOp != Op::kHello) return failure(tag, kEPROTO);
  Answer a;
  auto r = files_.handle(q, a.fds);
  files_.let_go();
  if (Request::kOp == Op::kForget) return {Answer::Kind::none, {}, {}};
  if (!r.ok()) return failure(tag, r.error());
  a.bytes = wire::encode_reply(tag, *r);
  if (a.bytes.size() > wire::kMaxRecord || a.fds.size() > wire::kMaxFds) return failure(tag, kEMSGSIZE);
  return a;
}

Answer Server::leave(base::wire::Reader& body) {
  wire::LeaveRequest q;
  body(q);
  if (!body.finished() || !files_.greeted()) return {Answer::Kind::hang_up, {}, {}};
  exit_code_ = q.code;
  return {Answer::Kind::leave, {}, {}};
}

Answer Server::answer(std::span<const std::byte> record) {
  base::wire::Reader r(record);
  wire::RequestHeader h;
  r(h);
  if (r.bad()) return {Answer::Kind::hang_up, {}, {}};
  switch (h.op) {
    case Op::kHello: return run<wire::HelloRequest>(h.tag, r);
    case Op::kAttach: return run<wire::AttachRequest>(h.tag, r);
    case Op::kWalk: return run<wire::WalkRequest>(h.tag, r);
    case Op::kReadDir: return run<wire::ReadDirRequest>(h.tag, r);
    case Op::kReadDirs: return run<wire::ReadDirsRequest>(h.tag, r);
    case Op::kGetAttr: return run<wire::GetAttrRequest>(h.tag, r);
    case Op::kSetAttr: return run<wire::SetAttrRequest>(h.tag, r);
    case Op::kReadLink: return run<wire::ReadLinkRequest>(h.tag, r);
    case Op::kOpen: return run<wire::OpenRequest>(h.tag, r);
    case Op::kOpenAhead: return run<wire::OpenAheadRequest>(h.tag, r);
    case Op::kCreate: return run<wire::CreateRequest>(h.tag, r);
    case Op::kMkdir: return run<wire::MkdirRequest>(h.tag, r);
    case Op::kSymlink: return run<wire::SymlinkRequest>(h.tag, r);
    case Op::kMknod: return run<wire::MknodRequest>(h.tag, r);
    case Op::kLink: return run<wire::LinkRequest>(h.tag, r);
    case Op::kUnlink: return run<wire::UnlinkRequest>(h.tag, r);
    case Op::kRename: return run<wire::RenameRequest>(h.tag, r);
    case Op::kStatFs: return run<wire::StatFsRequest>(h.tag, r);
    case Op::kGetXattr: return run<wire::GetXattrRequest>(h.tag, r);
    case Op::kSetXattr: return run<wire::SetXattrRequest>(h.tag, r);
    case Op::kListXattr: return run<wire::ListXattrRequest>(h.tag, r);
    case Op::kRemoveXattr: return run<wire::RemoveXattrRequest>(h.tag, r);
    case Op::kFsync: return run<wire::FsyncRequest>(h.tag, r);
    case Op::kForget: return run<wire::ForgetRequest>(h.tag, r);
    case Op::kCreateBacking: return run<wire::CreateBackingRequest>(h.tag, r);
    case Op::kLeave: return leave(r);
  }
  return failure(h.tag, kENOSYS);
}

Result<void> Server::serve(int socket) {
  std::vector<std::byte> in(wire::kMaxRecord);
  for (;;) {
    auto got = base::sys::recv_fds(socket, in, {}, 0);
    if (!got.ok()) {
      if (got.error() == kECONNRESET) return {};
      return got.error();
    }
    if (got->size == 0) return {};
    Answer a = answer(std::span(in).first(got->size));
    if (a.kind == Answer::Kind::hang_up) return kEBADMSG;
    if (a.kind == Answer::Kind::none) continue;
    if (a.kind == Answer::Kind::leave) return {};
    int fds[wire::kMaxFds];
    for (size_t i = 0; i < a.fds.size(); i++) fds[i] = a.fds[i].get();
    auto sent = base::sys::send_fds(socket, a.bytes, std::span(fds).first(a.fds.size()), MSG_NOSIGNAL);
    if (!sent.ok()) {
      if (sent.error() == kEPIPE || sent.error() == kECONNRESET) return {};
      if (!(sent.error().value() == ETOOMANYREFS)) return sent.error();
      // The client lets too many descriptors lie in its socket unread.
      TRY(base::sys::send_fds(socket, wire::encode_error(TRY(wire::reply_tag(a.bytes)), kEMFILE), {}, MSG_NOSIGNAL));
    }
  }
}

}  // namespace gofer
