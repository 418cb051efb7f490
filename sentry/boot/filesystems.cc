// SPDX-License-Identifier: Apache-2.0
// The list of file systems a container can have: one line for a new one.
#include "sentry/boot/filesystems.h"

#include "sentry/fs/mqueue/mqueue.h"
#include "sentry/fs/proc/proc.h"
#include "sentry/fs/sys/sysfs.h"
#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/fs/tty/tty.h"
#include "sentry/net/common/network.h"

namespace sentry::boot {
namespace {

using fs::common::BackingSource;

// The number of "name=…" in a comma-separated option list; base 0 as strtoul.
uint32_t option_number(const std::string& data, const std::string& name, int number_base, uint32_t otherwise) {
  size_t at = 0;
  while (at < data.size()) {
    size_t end = data.find(',', at);
    if (end == std::string::npos) end = data.size();
    if (data.compare(at, name.size() + 1, name + "=") == 0) {
      const std::string v = data.substr(at + name.size() + 1, end - at - name.size() - 1);
      return static_cast<uint32_t>(strtoul(v.c_str(), nullptr, number_base));
    }
    at = end + 1;
  }
  return otherwise;
}

Result<Ref<vfs::FileSystem>> make_tmpfs(const FsEnvironment& env, const std::string& data) {
  fs::tmpfs::Options defaults;
  defaults.backing = fs::gofer::backing(env.gofer, fs::gofer::Store::shm);
  kernel::Task* t = kernel::Task::find_current();
  if (!t) return fs::tmpfs::create(TRY(fs::tmpfs::parse_options(data, defaults, env.container->limits().memory_bytes)));
  // By a program: its own, or as it says, in its names for ids.
  const auth::Credentials& c = t->own_credentials();
  const auth::UserNamespace* ns = c.user_ns.get();
  defaults.uid = defaults.gid = auth::kNoId;
  fs::tmpfs::Options o = TRY(fs::tmpfs::parse_options(data, defaults, env.container->limits().memory_bytes));
  o.uid = o.uid == auth::kNoId ? c.fsuid : auth::kernel_uid(ns, o.uid);
  o.gid = o.gid == auth::kNoId ? c.fsgid : auth::kernel_gid(ns, o.gid);
  if (o.uid == auth::kNoId || o.gid == auth::kNoId) return kEINVAL;
  return fs::tmpfs::create(o);
}

Ref<vfs::FileSystem> make_sysfs(const FsEnvironment& env) {
  std::vector<fs::sys::NetDevice> devices;
  for (const auto& i : net::network()->interfaces)
    devices.push_back({i.index, i.flags, i.mtu, i.tx_queue, i.type, i.operstate, i.name, i.address, i.broadcast});
  return fs::sys::create(env.kernel, env.container, devices);
}

}  // namespace

Result<Ref<vfs::FileSystem>> make_filesystem(const FsEnvironment& env, const std::string& type,
                                             const std::string& data) {
  if (type == "tmpfs" || type == "ramfs" || type == "shm") return make_tmpfs(env, data);
  if (type == "proc") return fs::proc::create(env.kernel, env.container);
  if (type == "sysfs") return make_sysfs(env);
  if (type == "cgroup" || type == "cgroup2") return fs::sys::create_cgroup(env.kernel, env.container);
  if (type == "devpts") {
    fs::tty::DevptsOptions o;
    o.mode = option_number(data, "mode", 8, o.mode);
    o.ptmx_mode = option_number(data, "ptmxmode", 8, o.ptmx_mode);
    o.gid = option_number(data, "gid", 10, o.gid);
    return fs::tty::create_devpts(o);
  }
  if (type == "devtmpfs") return make_tmpfs(env, "mode=755,size=65536k");
  if (type == "mqueue") {
    kernel::Task* t = kernel::Task::find_current();
    return fs::mqueue::file_system(t ? *kernel::ipc_of(*t) : *env.container->ipc());
  }
  return kENODEV;
}

namespace {

class ContainerFileSystems final : public kernel::FileSystems {
 public:
  ContainerFileSystems(kernel::Kernel& kernel, kernel::Container& container, Ref<fs::gofer::Client> gofer)
      : kernel_(kernel), container_(container), gofer_(std::move(gofer)) {}
  Result<Ref<vfs::FileSystem>> make(const std::string& type, const std::string& data) override {
    return make_filesystem({kernel_, Ref<kernel::Container>(container_), gofer_}, type, data);
  }
  Result<Ref<vfs::File>> make_memfd(std::string_view name, bool allow_sealing, uint32_t mode,
                                    const Ref<auth::Credentials>& cred) override {
    return fs::tmpfs::create_memfd(name, allow_sealing, mode, fs::gofer::backing(gofer_, fs::gofer::Store::shm), cred);
  }

 private:
  kernel::Kernel& kernel_;
  kernel::Container& container_;  // owns this
  Ref<fs::gofer::Client> gofer_;
};

}  // namespace

std::unique_ptr<kernel::FileSystems> file_systems_of(kernel::Kernel& kernel, kernel::Container& container,
                                                     const Ref<fs::gofer::Client>& gofer) {
  return std::make_unique<ContainerFileSystems>(kernel, container, gofer);
}

}  // namespace sentry::boot
