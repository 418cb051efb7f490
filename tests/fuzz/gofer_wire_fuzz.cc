// SPDX-License-Identifier: Apache-2.0
// libFuzzer target: requests to the gofer over a small real tree. The input is a row of records, each after
// its 16-bit length; bytes 10 to 17 of a record, where most requests have a node, are taken as a number into
// the nodes seen so far, so that the fuzzer needs no luck with ids. Replies are decoded by the client's side too.
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "base/check.h"
#include "gofer/server.h"
#include "gofer/tree.h"

namespace {

namespace wire = gofer::wire;

std::string top;

// What runs have made goes, and the tree is as at the start.
bool reset_tree() {
  std::string script = "cd " + top +
                       " && rm -rf 0 1 store shm && mkdir -p 0/d/e 1 store shm && echo x > 0/f && echo z > 1/g &&"
                       " ln -s .. 0/l && mkfifo 0/p && echo y > secret";
  return system(script.c_str()) == 0;
}

template <typename Request>
std::vector<wire::NodeId> nodes_of(std::span<const std::byte> record) {
  std::vector<wire::NodeId> out;
  auto r = wire::decode_reply<Request>(record);
  if (!r.ok()) return out;
  if constexpr (requires { r->node; }) out.push_back(r->node);
  if constexpr (requires { r->found; })
    for (auto& f : r->found) out.push_back(f.node);
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  char dir[] = "/tmp/gofer_fuzz.XXXXXX";
  CHECK(mkdtemp(dir));
  top = dir;
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static unsigned runs = 0;
  if (runs++ % 256 == 0) CHECK(reset_tree());
  auto root = gofer::tree::open_root(top.c_str());
  CHECK(root.ok());
  gofer::AttachPoint points[] = {{0, false}, {1, true}};
  gofer::Limits limits;
  limits.nodes = 64;
  limits.dir_fds = 16;
  auto files = gofer::Files::create(std::move(root).value(), points, limits);
  CHECK(files.ok());
  gofer::Server server(**files);
  server.answer(wire::encode_request(0, wire::HelloRequest{}));
  std::vector<wire::NodeId> nodes;
  for (uint32_t i : {0u, 1u})
    for (auto n : nodes_of<wire::AttachRequest>(server.answer(wire::encode_request(0, wire::AttachRequest{i})).bytes))
      nodes.push_back(n);
  while (size >= 2) {
    size_t n = data[0] | size_t{data[1]} << 8;
    data += 2;
    size -= 2;
    if (n > size) n = size;
    const auto* bytes = reinterpret_cast<const std::byte*>(data);
    std::vector<std::byte> record(bytes, bytes + n);
    data += n;
    size -= n;
    if (n >= 18) {
      uint8_t pick = static_cast<uint8_t>(record[10]);
      if (pick != 255) memcpy(record.data() + 10, &nodes[pick % nodes.size()], 8);
    }
    gofer::Answer a = server.answer(record);
    for (auto& fd : a.fds) {
      struct stat st;
      CHECK(fstat(fd.get(), &st) == 0 && S_ISREG(st.st_mode));
    }
    if (a.kind != gofer::Answer::Kind::reply || n < 2) continue;
    uint16_t op;
    memcpy(&op, record.data(), 2);
    std::vector<wire::NodeId> found;
    switch (static_cast<wire::Op>(op)) {
      case wire::Op::kWalk: found = nodes_of<wire::WalkRequest>(a.bytes); break;
      case wire::Op::kOpen: found = nodes_of<wire::OpenRequest>(a.bytes); break;
      case wire::Op::kCreate: found = nodes_of<wire::CreateRequest>(a.bytes); break;
      case wire::Op::kMkdir: found = nodes_of<wire::MkdirRequest>(a.bytes); break;
      case wire::Op::kSymlink: found = nodes_of<wire::SymlinkRequest>(a.bytes); break;
      default: break;
    }
    nodes.insert(nodes.end(), found.begin(), found.end());
  }
  // What lies beside the attach points is never touched.
  char secret[4] = {};
  FILE* f = fopen((top + "/secret").c_str(), "r");
  CHECK(f && fread(secret, 1, 2, f) == 2 && secret[0] == 'y');
  fclose(f);
  return 0;
}
