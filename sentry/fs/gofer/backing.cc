// SPDX-License-Identifier: Apache-2.0
// Unnamed host files from the gofer's stores.
#include "sentry/fs/gofer/host_inode.h"

#include <sys/stat.h>

#include "base/sys.h"

namespace sentry::fs::gofer {
namespace {

class StoreBacking final : public common::BackingSource {
 public:
  StoreBacking(Ref<Channel> client, Store store) : client_(std::move(client)), store_(store) {}

  Result<common::BackingFds> create() override {
    ReplyFds fds;
    auto r = client_->call(make_request(), &fds);
    if (!r.ok() && r.error() == kENFILE) {
      // Descriptors of closed files can be had again.
      drop_fds(client_->idle_fds.shrink(64));
      r = client_->call(make_request(), &fds);
    }
    if (!r.ok()) return r.error();
    if (fds.count != 2) return client_->bad_reply();
    struct stat st;
    TRY(sys::fstat(fds.fd[0].get(), &st));
    if (st.st_size != 0 || !check_donated(fds.fd[0].get(), Access::read, st.st_dev, st.st_ino).ok() ||
        !check_donated(fds.fd[1].get(), Access::write, st.st_dev, st.st_ino).ok())
      return client_->bad_reply();
    return common::BackingFds{.rw = std::move(fds.fd[1]), .ro = std::move(fds.fd[0]), .in_memory = store_ == Store::shm};
  }

 private:
  wire::CreateBackingRequest make_request() const {
    return {store_ == Store::shm ? wire::Store::memory : wire::Store::disk};
  }
  const Ref<Channel> client_;
  const Store store_;
};

}  // namespace

std::shared_ptr<common::BackingSource> backing(const Ref<Client>& client, Store store) {
  return std::make_shared<StoreBacking>(Ref<Channel>(static_cast<Channel&>(*client)), store);
}

}  // namespace sentry::fs::gofer
