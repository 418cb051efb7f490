// SPDX-License-Identifier: Apache-2.0
// ps: the processes inside, with the pids they have there. Options after the id are those of ps(1) that choose columns.
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>

#include "base/sys.h"
#include "base/words.h"
#include "runtime/cmd/command.h"
#include "runtime/container/lifecycle.h"

namespace runtime::cmd {

namespace wire = base::wire;
using base::ResultX;

namespace {

using Info = wire::ProcessInfo;
constexpr uint64_t kSecond = 1'000'000'000;

struct Moment {
  uint64_t unix_ns = 0, memory = 1;
};

uint64_t age_s(const Info& p, const Moment& m) { return m.unix_ns > p.start_unix_ns ? (m.unix_ns - p.start_unix_ns) / kSecond : 0; }

// "[DD-]hh:mm:ss"; brief: without hours that are none.
std::string duration(uint64_t seconds, bool brief) {
  std::string out = seconds >= 86400 ? base::format("{}-", seconds / 86400) : "";
  uint64_t h = seconds / 3600 % 24, m = seconds / 60 % 60, s = seconds % 60;
  char text[32];
  if (brief && h == 0 && out.empty()) snprintf(text, sizeof text, "%02u:%02u", static_cast<unsigned>(m), static_cast<unsigned>(s));
  else snprintf(text, sizeof text, "%02u:%02u:%02u", static_cast<unsigned>(h), static_cast<unsigned>(m), static_cast<unsigned>(s));
  return out + text;
}

std::string local_time(uint64_t unix_ns, const char* format) {
  time_t t = static_cast<time_t>(unix_ns / kSecond);
  struct tm tm;
  ::localtime_r(&t, &tm);
  char text[64];
  return std::string(text, ::strftime(text, sizeof text, format, &tm));
}

std::string percent(uint64_t part, uint64_t whole) {
  char text[32];
  snprintf(text, sizeof text, "%.1f", whole ? 100.0 * static_cast<double>(part) / static_cast<double>(whole) : 0.0);
  return text;
}

// The sentry's words go to a terminal.
std::string shown(const std::string& s) { return s.empty() ? "?" : base::without_controls(s); }

// Users of the container may have other names; root is root everywhere.
std::string user_of(uint32_t id) { return id == 0 ? "root" : std::to_string(id); }

std::string state_of(const Info& p) {
  std::string s = shown(p.state);
  if (p.nice < 0) s += "<";
  if (p.nice > 0) s += "N";
  if (p.session == p.pid) s += "s";
  if (p.threads > 1) s += "l";
  return s;
}

std::string command_line(const Info& p) { return p.arguments.empty() ? "[" + shown(p.command) + "]" : shown(p.arguments); }

struct Column {
  const char* names;  // as -o takes them, each between spaces
  const char* header;
  size_t width;
  bool left;
  std::string (*value)(const Info&, const Moment&);
};

#define VALUE(expression) [](const Info& p, [[maybe_unused]] const Moment& m) -> std::string { return expression; }
constexpr Column kColumns[] = {
    {" pid tgid ", "PID", 5, false, VALUE(std::to_string(p.pid))},
    {" ppid ", "PPID", 5, false, VALUE(std::to_string(p.ppid))},
    {" pgid pgrp ", "PGID", 5, false, VALUE(std::to_string(p.pgrp))},
    {" sid sess session ", "SID", 5, false, VALUE(std::to_string(p.session))},
    {" user euser ruser uname ", "USER", 8, true, VALUE(user_of(p.uid))},
    {" uid euid ruid ", "UID", 5, false, VALUE(std::to_string(p.uid))},
    {" gid egid rgid ", "GID", 5, false, VALUE(std::to_string(p.gid))},
    {" comm ucmd ucomm ", "COMMAND", 15, true, VALUE(shown(p.command))},
    {" args command ", "COMMAND", 27, true, VALUE(command_line(p))},
    {" cmd ", "CMD", 27, true, VALUE(command_line(p))},
    {" nlwp thcount ", "NLWP", 4, false, VALUE(std::to_string(p.threads))},
    {" s state ", "S", 1, true, VALUE(shown(p.state))},
    {" stat ", "STAT", 4, true, VALUE(state_of(p))},
    {" ni nice ", "NI", 3, false, VALUE(std::to_string(p.nice))},
    {" tty tt tname ", "TT", 8, true, VALUE(shown(p.tty))},
    {" time cputime ", "TIME", 8, false, VALUE(duration(p.cpu_ns / kSecond, false))},
    {" etime ", "ELAPSED", 11, false, VALUE(duration(age_s(p, m), true))},
    {" etimes ", "ELAPSED", 7, false, VALUE(std::to_string(age_s(p, m)))},
    {" stime start start_time ", "STIME", 5, false, VALUE(local_time(p.start_unix_ns, age_s(p, m) < 86400 ? "%H:%M" : "%b%d"))},
    {" lstart ", "STARTED", 24, false, VALUE(local_time(p.start_unix_ns, "%a %b %e %H:%M:%S %Y"))},
    {" vsz vsize ", "VSZ", 6, false, VALUE(std::to_string(p.size / 1024))},
    {" rss rssize rsz ", "RSS", 5, false, VALUE(std::to_string(p.resident / 1024))},
    {" c ", "C", 2, false, VALUE(std::to_string(std::min<uint64_t>(p.cpu_ns * 100 / (std::max<uint64_t>(age_s(p, m), 1) * kSecond), 99)))},
    {" %cpu pcpu ", "%CPU", 4, false, VALUE(percent(p.cpu_ns, std::max<uint64_t>(age_s(p, m), 1) * kSecond))},
    {" %mem pmem ", "%MEM", 4, false, VALUE(percent(p.resident, m.memory))},
};
#undef VALUE

struct Shown {
  const Column* column;
  std::string header;
};
using Table = std::vector<Shown>;

const Column* find_column(const std::string& name) {
  for (auto& c : kColumns) {
    if (!name.empty() && name.find(' ') == name.npos && strstr(c.names, (" " + name + " ").c_str())) return &c;
  }
  return nullptr;
}

std::string column_names() {
  std::string out;
  for (auto& c : kColumns) out += (out.empty() ? "" : ",") + std::string(c.names + 1, strchr(c.names + 1, ' '));
  return out;
}

// "pid,comm=NAME,…": with a header of one's own, which may be empty.
ResultX<void> add_columns(const std::string& list, Table& t) {
  for (size_t at = 0; at <= list.size();) {
    size_t end = std::min(list.find_first_of(", ", at), list.size());
    size_t eq = std::min(list.find('=', at), end);
    std::string name = list.substr(at, eq - at);
    const Column* c = find_column(name);
    if (!c) {
      return base::error(base::kEINVAL, "ps option -o {}: '{}' is no column: must be of {}", list, name, column_names());
    }
    t.push_back({c, eq < end ? list.substr(eq + 1, end - eq - 1) : c->header});
    at = end + 1;
  }
  return {};
}

constexpr const char *kFull = "user=UID,pid,ppid,c,stime,tty=TTY,time,cmd", *kUser = "user,pid,%cpu,%mem,vsz,rss,tty=TTY,stat,start=START,time,command",
                     *kJobs = "pid,pgid,sid,tty=TTY,time,cmd";

// Which processes ps would choose (-e, -A, a, x …) does not matter: all of the container's are shown.
ResultX<Table> choose_columns(const Args& options, bool& headers) {
  Table t;
  const char* preset = kFull;
  for (size_t i = 0; i < options.size(); i++) {
    const std::string& o = options[i];
    if (o == "--no-headers" || o == "--no-heading") {
      headers = false;
      continue;
    }
    if (o.rfind("--format=", 0) == 0) {
      TRY(add_columns(o.substr(9), t));
      continue;
    }
    bool dash = o[0] == '-' && o != "--format";
    std::string letters = o == "--format" ? "o" : o.substr(dash);
    for (size_t k = 0; k < letters.size() || letters.empty(); k++) {
      char c = letters.empty() ? '\0' : letters[k];
      if (c == 'o') {
        std::string list = letters.substr(k + 1);
        if (list.empty() && i + 1 < options.size()) list = options[++i];
        if (list.empty()) return base::error(base::kEINVAL, "ps option {}: it must be followed by columns such as pid,args", o);
        TRY(add_columns(list, t));
        break;
      }
      if (strchr(dash ? "fF" : "f", c) && c) preset = kFull;
      else if (c == 'u' && !dash) preset = kUser;
      else if (c == 'j') preset = kJobs;
      else if (!c || !strchr(dash ? "eAadxwu" : "axewr", c)) {
        return base::error(base::kEINVAL, "ps option {} is not supported: -e, -A, -f, -ef, aux, axj, --no-headers and -o COLUMNS are (for "
                           "others run ps inside: caisson exec ID ps {})", o, o);
      }
    }
  }
  if (t.empty()) TRY(add_columns(preset, t));
  return t;
}

std::string padded(const std::string& s, size_t width, bool left) {
  if (s.size() >= width) return s;
  std::string space(width - s.size(), ' ');
  return left ? s + space : space + s;
}

std::string show(const Table& t, const std::vector<Info>& list, bool headers) {
  timespec now;
  ::clock_gettime(CLOCK_REALTIME, &now);
  Moment m{static_cast<uint64_t>(now.tv_sec) * kSecond + static_cast<uint64_t>(now.tv_nsec),
           static_cast<uint64_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE))};
  std::string out;
  auto line = [&](const std::function<std::string(const Shown&)>& cell) {
    std::string text;
    for (auto& s : t) {
      bool last = &s == &t.back();
      size_t width = std::max(s.column->width, s.header.size());
      text += padded(cell(s), last && s.column->left ? 0 : width, s.column->left) + (last ? "\n" : " ");
    }
    out += text;
  };
  bool titled = std::any_of(t.begin(), t.end(), [](auto& s) { return !s.header.empty(); });
  if (headers && titled) line([](const Shown& s) { return s.header; });
  for (auto& p : list) line([&](const Shown& s) { return s.column->value(p, m); });
  return out;
}

}  // namespace

ResultX<int> ps(const Globals& g, const Args& args) {
  std::string format = "table";
  Flags f("caisson ps", "[flags] ID [options of ps]", "Lists the processes in a container, by the pids they have inside.");
  f.choice("-f,--format", format, {"table", "json"}, "table or json");
  Args rest;
  if (!TRY(f.parse(args, &rest, true))) return 0;
  Args options;
  if (rest.size() > 1) {
    options.assign(rest.begin() + (rest[1] == "--" ? 2 : 1), rest.end());
    rest.resize(1);
  }
  std::string id = TRY(only_id(rest, "ps"));
  bool headers = true, json = format == "json";
  Table columns;
  if (!json) columns = TRY(choose_columns(options, headers));
  auto root = TRY(container::Root::open(g.root));
  auto d = TRY(container::Directory::open(root, id));
  auto s = TRY(d.load());
  auto status = container::find_status(d, s);
  if (status != container::Status::running && status != container::Status::created) {
    return base::error(base::kEINVAL, "container '{}' is {}", id, container::status_name(status));
  }
  auto client = TRY(container::connect_to(d, s));
  auto op = json ? wire::ControlOp::kProcesses : wire::ControlOp::kProcessDetails;
  auto reply = TRY(client.call<wire::ProcessesReply>(op, wire::IdRequest{id}, 3000));
  std::string out;
  if (json) {
    auto pids = nlohmann::json::array();
    for (auto& p : reply.list) pids.push_back(p.pid);
    out = pids.dump() + "\n";
  } else {
    out = show(columns, reply.list, headers);
  }
  fwrite(out.data(), 1, out.size(), stdout);
  return 0;
}

}  // namespace runtime::cmd
