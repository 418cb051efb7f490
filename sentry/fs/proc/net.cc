// SPDX-License-Identifier: Apache-2.0
// /proc/PID/net: tables of the network. Families that have sockets hand in their own (set_net_table); the others show what an
// idle machine with a loopback device does. Linux: net/ipv4/proc.c, net/core/net-procfs.c.
#include "sentry/fs/proc/proc_fs.h"
#include "sentry/fs/proc/proc.h"

namespace sentry::fs::proc {
namespace {

using kernel::Task;

constexpr const char* kTcp =
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
constexpr const char* kTcp6 =
    "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when "
    "retrnsmt   uid  timeout inode\n";
constexpr const char* kUdp =
    "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops";
constexpr const char* kUdp6 =
    "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when "
    "retrnsmt   uid  timeout inode ref pointer drops\n";
constexpr const char* kRaw =
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n";
constexpr const char* kSnmp =
    "Ip: Forwarding DefaultTTL InReceives InHdrErrors InAddrErrors ForwDatagrams InUnknownProtos InDiscards InDelivers "
    "OutRequests OutDiscards OutNoRoutes ReasmTimeout ReasmReqds ReasmOKs ReasmFails FragOKs FragFails FragCreates "
    "OutTransmits\n"
    "Ip: 2 64 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
    "Icmp: InMsgs InErrors InCsumErrors InDestUnreachs InTimeExcds InParmProbs InSrcQuenchs InRedirects InEchos InEchoReps "
    "InTimestamps InTimestampReps InAddrMasks InAddrMaskReps OutMsgs OutErrors OutRateLimitGlobal OutRateLimitHost "
    "OutDestUnreachs OutTimeExcds OutParmProbs OutSrcQuenchs OutRedirects OutEchos OutEchoReps OutTimestamps "
    "OutTimestampReps OutAddrMasks OutAddrMaskReps\n"
    "Icmp: 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
    "Tcp: RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab InSegs OutSegs "
    "RetransSegs InErrs OutRsts InCsumErrors\n"
    "Tcp: 1 200 120000 -1 0 0 0 0 0 0 0 0 0 0 0\n"
    "Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors\n"
    "Udp: 0 0 0 0 0 0 0 0 0\n"
    "UdpLite: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors\n"
    "UdpLite: 0 0 0 0 0 0 0 0 0\n";
constexpr const char* kNetstat =
    "TcpExt: SyncookiesSent SyncookiesRecv SyncookiesFailed EmbryonicRsts PruneCalled RcvPruned OfoPruned OutOfWindowIcmps "
    "LockDroppedIcmps ArpFilter TW TWRecycled TWKilled ListenOverflows ListenDrops\n"
    "TcpExt: 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
    "IpExt: InNoRoutes InTruncatedPkts InMcastPkts OutMcastPkts InBcastPkts OutBcastPkts InOctets OutOctets InMcastOctets "
    "OutMcastOctets InBcastOctets OutBcastOctets InCsumErrors InNoECTPkts InECT1Pkts InECT0Pkts InCEPkts ReasmOverlaps\n"
    "IpExt: 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n";

struct Table {
  const char* name;
  const char* idle;
  int width = 0;  // of a single line without its end, padded
  std::atomic<NetTable> live{nullptr};
};

Table g_tables[] = {
    {"arp", "IP address       HW type     Flags       HW address            Mask     Device\n"},
    {"dev",
     "Inter-|   Receive                                                |  Transmit\n"
     " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier "
     "compressed\n"
     "    lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          "
     "0\n"},
    {"dev_mcast", ""},
    {"if_inet6", ""},
    {"igmp", "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n"},
    {"ipv6_route", ""},
    {"netlink",
     "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n"},
    {"netstat", kNetstat},
    {"packet", "sk       RefCnt Type Proto  Iface R Rmem   User   Inode\n"},
    {"protocols",
     "protocol  size sockets  memory press maxhdr  slab module     cl co di ac io in de sh ss gs se re bi br ha uh gp em\n"},
    {"psched", "000003e8 00000040 000f4240 3b9aca00\n"},
    {"ptype", "Type Device      Function\n"},
    {"raw", kRaw},
    {"raw6", kUdp6},
    {"route",
     "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT", 127},
    {"snmp", kSnmp},
    {"snmp6", ""},
    {"sockstat",
     "sockets: used 0\nTCP: inuse 0 orphan 0 tw 0 alloc 0 mem 0\nUDP: inuse 0 mem 0\nUDPLITE: inuse 0\nRAW: inuse 0\n"
     "FRAG: inuse 0 memory 0\n"},
    {"sockstat6", "TCP6: inuse 0\nUDP6: inuse 0\nUDPLITE6: inuse 0\nRAW6: inuse 0\nFRAG6: inuse 0 memory 0\n"},
    {"tcp", kTcp, 149},
    {"tcp6", kTcp6},
    {"udp", kUdp, 127},
    {"udp6", kUdp6},
    {"udplite", kUdp, 127},
    {"udplite6", kUdp6},
    {"unix", "Num       RefCount Protocol Flags    Type St Inode Path\n"},
};

class NetText final : public OfTask<common::TextInode> {
 public:
  NetText(const Subject& s, uint64_t ino, const Table& t) : OfTask(s, ino, S_IFREG | 0444), table_(t) {}
  Result<std::string> text() override {
    Ref<Task> t = TRY(subject_.task());
    if (NetTable live = table_.live.load(std::memory_order_acquire)) return live(*t);
    if (table_.width == 0) return std::string(table_.idle);
    std::string out;
    append(out, "%-*s\n", table_.width, table_.idle);
    return out;
  }

 private:
  const Table& table_;
};

class NetDirectory final : public OfTask<common::SyntheticDirectory> {
 public:
  NetDirectory(const Subject& s, uint64_t ino) : OfTask(s, ino) {}
  bool dentries_are_stable() const override { return false; }
  Result<RefOrNull<vfs::Inode>> lookup(std::string_view name) override {
    for (size_t i = 0; i < std::size(g_tables); i++) {
      if (name != g_tables[i].name || !subject_.alive()) continue;
      auto it = made_.find(i);
      if (it == made_.end())
        it = made_.emplace(i, make_ref<NetText>(subject_, ino_of(subject_, kNetBase + i), g_tables[i])).first;
      return RefOrNull<vfs::Inode>(it->second);
    }
    return kENOENT;
  }
  Result<std::vector<Entry>> entries() override {
    if (!subject_.alive()) return kENOENT;
    std::vector<Entry> out;
    for (size_t i = 0; i < std::size(g_tables); i++)
      out.push_back({g_tables[i].name, ino_of(subject_, kNetBase + i), S_IFREG});
    return out;
  }

 private:
  std::map<size_t, Ref<vfs::Inode>> made_;  // guarded by lock()
};

}  // namespace

void set_net_table(std::string_view name, NetTable table) {
  for (Table& t : g_tables)
    if (name == t.name) t.live.store(table, std::memory_order_release);
}

Ref<vfs::Inode> make_net(const Subject& s, uint64_t ino) { return make_ref<NetDirectory>(s, ino); }

}  // namespace sentry::fs::proc
