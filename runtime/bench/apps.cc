// SPDX-License-Identifier: Apache-2.0
#include "runtime/bench/apps.h"

#include <glob.h>

namespace runtime::bench {

const std::vector<App>& apps() {
  static const std::vector<App> all = {
      {"shell", "shell_forks", "shell: 100 programs, 100 subshells", {"sh", "true"}, "",
       "i=0; while [ $i -lt 100 ]; do /bin/true; (:); i=$((i+1)); done"},
      {"shell", "pipelines", "shell: 20 pipelines of 4 programs", {"sh", "seq", "grep", "sort", "wc"}, "",
       "i=0; while [ $i -lt 20 ]; do seq 500 | grep 7 | sort -r | wc -l; i=$((i+1)); done"},
      {"languages", "python_imports", "python3: 30 imports", {"python3", "/usr/lib/python3*/asyncio"}, "",
       "python3 -c 'import argparse, ast, asyncio, base64, calendar, collections, concurrent.futures, copy, csv, datetime, decimal, difflib, "
       "email, fractions, functools, hashlib, html, http.client, inspect, json, logging, pathlib, random, re, shutil, socket, sqlite3, "
       "subprocess, tempfile, unittest'"},
      {"languages", "python_loops", "python3: numbers, dicts, json, regex", {"python3", "/usr/lib/python3*/json"}, "",
       "python3 -c '\nimport json, re\nn = sum(i * i % 7 for i in range(400000))\nd = {str(i): [i] * 5 for i in range(20000)}\n"
       "for _ in range(4): d = json.loads(json.dumps(d))\nprint(n, len(re.findall(r\"[0-9]+7\", json.dumps(d))))\n'"},
      {"languages", "python_files", "python3: 2000 files written, read, removed", {"python3", "/usr/lib/python3*/tempfile.py"}, "",
       "python3 -c '\nimport os, tempfile\nwith tempfile.TemporaryDirectory() as d:\n  for i in range(2000):\n"
       "    with open(d + \"/%d\" % i, \"w\") as f: f.write(\"x\" * 1000)\n  for i in range(2000):\n    with open(d + \"/%d\" % i) as f: f.read()\n'"},
      {"languages", "node_http", "node: 2000 HTTP requests to itself", {"node"}, "",
       "node -e '\nconst http = require(\"http\"), agent = new http.Agent({keepAlive: true, maxSockets: 10});\n"
       "const s = http.createServer((q, r) => r.end(\"hello\")).listen(0, \"127.0.0.1\", () => {\n  let sent = 0, done = 0;\n"
       "  const one = () => { if (sent++ < 2000) http.get({port: s.address().port, host: \"127.0.0.1\", agent}, r => { r.resume();\n"
       "    r.on(\"end\", () => { if (++done == 2000) process.exit(0); one(); }); }); };\n  for (let i = 0; i < 10; i++) one();\n});'"},
      {"data", "sqlite", "sqlite3: 100 transactions, 20000 rows, queries", {"sqlite3"}, "",
       "rm -f /tmp/b.db; (echo 'create table t(a integer primary key, b text);'; i=0; while [ $i -lt 100 ]; do "
       "echo \"insert into t(b) values ('row $i');\"; i=$((i+1)); done; "
       "echo \"begin; with recursive c(x) as (select 1 union all select x+1 from c where x<20000) insert into t(b) select 'bulk '||x from c; commit; "
       "create index i on t(b); select count(*), max(b) from t where b like '%7%';\") | sqlite3 /tmp/b.db"},
      {"data", "git", "git: init, add and commit 300 files, status, log", {"git"}, "",
       "rm -rf /tmp/g && mkdir /tmp/g && cd /tmp/g && git init -q . && git config user.email a@b && git config user.name n && "
       "i=0; while [ $i -lt 300 ]; do echo \"file $i\" >f$i; i=$((i+1)); done; git add . && git commit -qm one && git status --short && git log --stat"},
      {"data", "tar_zstd", "tar + zstd of /usr/share, and back", {"tar", "zstd"},
       "mkdir -p /tmp/t && find /usr/share /usr/include -xdev -type f -size -200k 2>/dev/null | head -2000 >/tmp/t/list",
       "tar -cf - -T /tmp/t/list 2>/dev/null | zstd -q -3 >/tmp/t/a.zst && rm -rf /tmp/t/x && mkdir /tmp/t/x && zstd -qdc /tmp/t/a.zst | tar -xf - -C /tmp/t/x"},
      {"build", "gcc", "gcc: make of 8 files", {"gcc", "make", "seq"},
       "mkdir -p /tmp/c && cd /tmp/c && for f in 1 2 3 4 5 6 7 8; do (echo '#include <stdio.h>'; echo '#include <stdlib.h>'; echo '#include <string.h>'; "
       "for n in $(seq 40); do echo \"int f${f}_$n(int a) { int s = 0; for (int i = 0; i < a; i++) s += i * $n ^ (s >> 3); "
       "return s + abs(a); }\"; done) >f$f.c; done; echo 'int main(void) { return 0; }' >main.c; "
       "printf 'O = main.o f1.o f2.o f3.o f4.o f5.o f6.o f7.o f8.o\\nprog: $(O)\\n\\tgcc -o prog $(O)\\n%%.o: %%.c\\n\\tgcc -O1 -c -o $@ $<\\n' >Makefile",
       "cd /tmp/c && rm -f *.o prog && make -s -j2"},
      {"build", "gxx", "g++: one file with <iostream>, <map>, <string>", {"g++"},
       "printf '#include <iostream>\\n#include <map>\\n#include <string>\\nint main() { std::map<std::string, int> m; m[\"a\"] = 1; std::cout << m.size(); }\\n' >/tmp/p.cc",
       "g++ -O1 -o /tmp/p /tmp/p.cc && /tmp/p"},
      {"servers", "redis", "redis: 20000 GET and SET, 20 clients", {"redis-server", "redis-benchmark", "redis-cli"},
       "redis-server --save '' --daemonize yes --dir /tmp && i=0; until redis-cli ping || [ $i -gt 300 ]; do sleep 0.1; i=$((i+1)); done",
       "redis-benchmark -q -n 20000 -c 20 -t get,set"},
      {"servers", "nginx", "nginx: 5000 requests by ab, 10 at once", {"nginx", "ab"}, "mkdir -p /var/log/nginx /var/lib/nginx; nginx",
       "ab -q -n 5000 -c 10 http://127.0.0.1/"},
      {"servers", "pgbench", "postgres: pgbench, 4 clients, 1000 transactions", {"runuser", "/usr/lib/postgresql/*/bin/initdb", "/usr/lib/postgresql/*/bin/pgbench"},
       "B=$(echo /usr/lib/postgresql/*/bin); mkdir -p /tmp/pg /var/run/postgresql && chown postgres /tmp/pg /var/run/postgresql && cd /tmp && "
       "runuser -u postgres -- $B/initdb -D /tmp/pg/d -A trust && runuser -u postgres -- $B/pg_ctl -D /tmp/pg/d -l /tmp/pg/log -w start && "
       "runuser -u postgres -- $B/pgbench -i -s 1 postgres",
       "cd /tmp && runuser -u postgres -- $(echo /usr/lib/postgresql/*/bin)/pgbench -n -c 4 -t 250 postgres"},
  };
  return all;
}

namespace {

bool there(const std::string& pattern) {
  glob_t found{};
  bool any = ::glob(pattern.c_str(), GLOB_NOSORT, nullptr, &found) == 0;
  ::globfree(&found);
  if (any) return true;
  return false;
}

}  // namespace

std::string missing_program(const App& app, const std::string& root) {
  for (std::string p : app.programs) {
    bool found = false;
    if (p[0] == '/') {
      found = there(root + p);
    } else {
      for (const char* d : {"/usr/bin/", "/bin/", "/usr/sbin/", "/sbin/", "/usr/local/bin/"}) found = found || there(root + d + p);
    }
    if (!found) return p;
  }
  return "";
}

}  // namespace runtime::bench
