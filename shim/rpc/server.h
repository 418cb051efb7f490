// SPDX-License-Identifier: Apache-2.0
// A ttrpc server: unary calls on many connections, many in flight on each, answered in any order. A peer can at worst
// lose its own connection.
#pragma once

#include <google/protobuf/message_lite.h>

#include <deque>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/fd.h"
#include "shim/proto/ttrpc.pb.h"
#include "shim/rpc/frame.h"
#include "shim/rpc/loop.h"
#include "shim/rpc/status.h"

namespace shim::rpc {

class Server;

// One call, to be answered once. One that is dropped unanswered is answered as an internal error.
class Call {
 public:
  Call(Call&& o) noexcept;
  Call& operator=(Call&& o) noexcept;  // what was here is dropped with `o`
  ~Call();

  std::string service, method, payload;
  std::map<std::string, std::string> metadata;

  void reply(const google::protobuf::MessageLite& message);
  void reply();  // with nothing
  void fail(Code code, const std::string& text);
  void fail(const Status& s) { fail(s.code, s.text); }
  void fail(const base::Error& e) { fail(status_of(e)); }
  // Whether anybody still waits for the answer: the connection lives and its deadline has not passed.
  bool awaited() const;

 private:
  friend class Server;
  Call(Server* server, uint64_t connection, uint32_t stream) : server_(server), connection_(connection), stream_(stream) {}
  Server* server_;  // null: answered
  uint64_t connection_;
  uint32_t stream_;
};

struct ServerLimits {
  size_t connections = 256;
  size_t calls = 1024;            // in flight, per connection
  size_t unsent = 16 << 20;       // bytes of answers that a peer has not read
};

class Server {
 public:
  using Handler = std::function<void(Call)>;
  // Only peers of this process's user (and root) are served. The server outlives every Call.
  Server(Loop& loop, base::Fd listener, Handler handler, ServerLimits limits = {});
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  size_t connections() const { return connections_.size(); }
  // A connection that exists already.
  void adopt(base::Fd socket);
  // Whether every answer has left.
  bool flushed() const;

 private:
  friend class Call;
  struct Connection {
    base::Fd socket;
    uint64_t watch = 0;
    FrameReader reader;
    std::deque<std::string> out;
    size_t out_bytes = 0, out_used = 0;
    bool blocked = false, broken = false;
    uint32_t last_stream = 0;
    std::map<uint32_t, uint64_t> calls;  // stream -> timer of its deadline, or 0
  };

  void accept_all();
  void on_event(uint64_t id, uint32_t events);
  bool read_some(uint64_t id);
  bool take(uint64_t id, Frame frame);
  void start_call(uint64_t id, uint32_t stream, proto::Request request);
  void answer(uint64_t id, uint32_t stream, Code code, const std::string& text, const std::string& payload);
  // False: the connection is to be dropped.
  bool respond(Connection& c, uint32_t stream, Code code, const std::string& text, const std::string& payload);
  bool in_flight(uint64_t id, uint32_t stream) const;
  bool send(Connection& c, std::string bytes);
  bool flush(Connection& c);
  void drop(uint64_t id);

  Loop& loop_;
  base::Fd listener_;
  Handler handler_;
  ServerLimits limits_;
  uint64_t accept_watch_ = 0;
  uint64_t next_ = 1;
  std::map<uint64_t, Connection> connections_;
};

}  // namespace shim::rpc
