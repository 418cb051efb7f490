// SPDX-License-Identifier: Apache-2.0
#include "shim/task/metrics.h"

#include <unistd.h>

#include "shim/proto/metrics.pb.h"

namespace shim::task {

using runtime::host::CgroupStats;

namespace {

void fill(proto::MemoryEntry1* to, const CgroupStats::Amount& a) {
  to->set_limit(a.limit);
  to->set_usage(a.usage);
  to->set_max(a.max);
  to->set_failcnt(a.failures);
}

class Raw {
 public:
  explicit Raw(const std::map<std::string, uint64_t>& t) : t_(t) {}
  uint64_t operator[](const char* name) const {
    auto it = t_.find(name);
    return it == t_.end() ? 0 : it->second;
  }

 private:
  const std::map<std::string, uint64_t>& t_;
};

void fill_memory(proto::Memory1& m, const CgroupStats& s) {
  Raw r(s.memory_raw);
  m.set_cache(r["cache"]);
  m.set_rss(r["rss"]);
  m.set_rss_huge(r["rss_huge"]);
  m.set_mapped_file(r["mapped_file"]);
  m.set_dirty(r["dirty"]);
  m.set_writeback(r["writeback"]);
  m.set_pg_pg_in(r["pgpgin"]);
  m.set_pg_pg_out(r["pgpgout"]);
  m.set_pg_fault(r["pgfault"]);
  m.set_pg_maj_fault(r["pgmajfault"]);
  m.set_inactive_anon(r["inactive_anon"]);
  m.set_active_anon(r["active_anon"]);
  m.set_inactive_file(r["inactive_file"]);
  m.set_active_file(r["active_file"]);
  m.set_unevictable(r["unevictable"]);
  m.set_hierarchical_memory_limit(r["hierarchical_memory_limit"]);
  m.set_hierarchical_swap_limit(r["hierarchical_memsw_limit"]);
  m.set_total_cache(r["total_cache"]);
  m.set_total_rss(r["total_rss"]);
  m.set_total_rss_huge(r["total_rss_huge"]);
  m.set_total_mapped_file(r["total_mapped_file"]);
  m.set_total_dirty(r["total_dirty"]);
  m.set_total_writeback(r["total_writeback"]);
  m.set_total_pg_pg_in(r["total_pgpgin"]);
  m.set_total_pg_pg_out(r["total_pgpgout"]);
  m.set_total_pg_fault(r["total_pgfault"]);
  m.set_total_pg_maj_fault(r["total_pgmajfault"]);
  m.set_total_inactive_anon(r["total_inactive_anon"]);
  m.set_total_active_anon(r["total_active_anon"]);
  m.set_total_inactive_file(r["total_inactive_file"]);
  m.set_total_active_file(r["total_active_file"]);
  m.set_total_unevictable(r["total_unevictable"]);
  fill(m.mutable_usage(), s.memory);
  fill(m.mutable_swap(), s.memory_swap);
  fill(m.mutable_kernel(), s.kernel);
  fill(m.mutable_kernel_tcp(), s.kernel_tcp);
}

void fill_memory(proto::Memory2& m, const CgroupStats& s) {
  Raw r(s.memory_raw);
  m.set_anon(r["anon"]);
  m.set_file(r["file"]);
  m.set_kernel_stack(r["kernel_stack"]);
  m.set_slab(r["slab"]);
  m.set_sock(r["sock"]);
  m.set_shmem(r["shmem"]);
  m.set_file_mapped(r["file_mapped"]);
  m.set_file_dirty(r["file_dirty"]);
  m.set_file_writeback(r["file_writeback"]);
  m.set_anon_thp(r["anon_thp"]);
  m.set_inactive_anon(r["inactive_anon"]);
  m.set_active_anon(r["active_anon"]);
  m.set_inactive_file(r["inactive_file"]);
  m.set_active_file(r["active_file"]);
  m.set_unevictable(r["unevictable"]);
  m.set_slab_reclaimable(r["slab_reclaimable"]);
  m.set_slab_unreclaimable(r["slab_unreclaimable"]);
  m.set_pgfault(r["pgfault"]);
  m.set_pgmajfault(r["pgmajfault"]);
  m.set_usage(s.memory.usage);
  m.set_usage_limit(s.memory.limit);
  // The figures hold memory and swap together, as version 1 counts; version 2 has them apart.
  m.set_swap_usage(s.memory_swap.usage >= s.memory.usage ? s.memory_swap.usage - s.memory.usage : 0);
  bool limited = s.memory_swap.limit != UINT64_MAX && s.memory.limit != UINT64_MAX && s.memory_swap.limit >= s.memory.limit;
  m.set_swap_limit(limited ? s.memory_swap.limit - s.memory.limit : UINT64_MAX);
}

std::string encode_v1(const CgroupStats& s) {
  proto::Metrics1 m;
  for (auto& [size, a] : s.hugepages) {
    auto* h = m.add_hugetlb();
    h->set_pagesize(size);
    h->set_usage(a.usage);
    h->set_max(a.max);
    h->set_failcnt(a.failures);
  }
  m.mutable_pids()->set_current(s.pids);
  m.mutable_pids()->set_limit(s.pids_limit == UINT64_MAX ? 0 : s.pids_limit);
  auto* usage = m.mutable_cpu()->mutable_usage();
  usage->set_total(s.cpu_ns);
  usage->set_user(s.cpu_user_ns);
  usage->set_kernel(s.cpu_kernel_ns);
  for (uint64_t n : s.cpu_each_ns) usage->add_per_cpu(n);
  auto* t = m.mutable_cpu()->mutable_throttling();
  t->set_periods(s.periods);
  t->set_throttled_periods(s.throttled_periods);
  t->set_throttled_time(s.throttled_ns);
  fill_memory(*m.mutable_memory(), s);
  auto io = [](auto* list, const std::vector<CgroupStats::Io>& from) {
    for (auto& e : from) {
      auto* to = list->Add();
      to->set_op(e.operation);
      to->set_major(e.major);
      to->set_minor(e.minor);
      to->set_value(e.value);
    }
  };
  io(m.mutable_blkio()->mutable_io_service_bytes_recursive(), s.io_bytes);
  io(m.mutable_blkio()->mutable_io_serviced_recursive(), s.io_operations);
  m.mutable_memory_oom_control()->set_oom_kill(s.oom_kills);
  return m.SerializeAsString();
}

std::string encode_v2(const CgroupStats& s) {
  proto::Metrics2 m;
  m.mutable_pids()->set_current(s.pids);
  m.mutable_pids()->set_limit(s.pids_limit);
  auto* c = m.mutable_cpu();
  c->set_usage_usec(s.cpu_ns / 1000);
  c->set_user_usec(s.cpu_user_ns / 1000);
  c->set_system_usec(s.cpu_kernel_ns / 1000);
  c->set_nr_periods(s.periods);
  c->set_nr_throttled(s.throttled_periods);
  c->set_throttled_usec(s.throttled_ns / 1000);
  fill_memory(*m.mutable_memory(), s);
  m.mutable_memory_events()->set_max(s.memory.failures);
  m.mutable_memory_events()->set_oom_kill(s.oom_kills);
  std::map<std::pair<uint64_t, uint64_t>, proto::IoEntry2*> devices;
  auto device = [&](const CgroupStats::Io& io) {
    auto*& d = devices[{io.major, io.minor}];
    if (!d) {
      d = m.mutable_io()->add_usage();
      d->set_major(io.major);
      d->set_minor(io.minor);
    }
    return d;
  };
  for (auto& io : s.io_bytes) {
    if (io.operation == "Read") device(io)->set_rbytes(io.value);
    if (io.operation == "Write") device(io)->set_wbytes(io.value);
  }
  for (auto& io : s.io_operations) {
    if (io.operation == "Read") device(io)->set_rios(io.value);
    if (io.operation == "Write") device(io)->set_wios(io.value);
  }
  for (auto& [size, a] : s.hugepages) {
    auto* h = m.add_hugetlb();
    h->set_pagesize(size);
    h->set_current(a.usage);
    h->set_max(a.max);
  }
  return m.SerializeAsString();
}

}  // namespace

proto::Any encode_metrics(const CgroupStats& s, bool v2) {
  proto::Any out;
  out.set_type_url(v2 ? "io.containerd.cgroups.v2.Metrics" : "io.containerd.cgroups.v1.Metrics");
  out.set_value(v2 ? encode_v2(s) : encode_v1(s));
  return out;
}

bool uses_v2(const std::vector<std::string>& leaves) {
  for (auto& leaf : leaves) {
    if (::access((leaf + "/memory.limit_in_bytes").c_str(), F_OK) == 0) return false;
  }
  return true;
}

}  // namespace shim::task
