// SPDX-License-Identifier: Apache-2.0
// A terminal's master, carried to and from a client's FIFOs.
#pragma once

#include <string>

#include "base/fd.h"
#include "shim/rpc/loop.h"
#include "shim/task/stdio.h"

namespace shim::task {

class Relay {
 public:
  // Either stream may be missing: then nobody types, or what is written goes nowhere.
  Relay(rpc::Loop& loop, base::Fd master, Stdio io);
  ~Relay() { close(); }
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;

  int master() const { return master_.get(); }
  // No more is typed: the client has closed its side.
  void close_in();
  // The program has ended: what it wrote is still carried, for at most two seconds, then all is closed.
  void finish();

 private:
  void want(uint64_t& watch, int fd, uint32_t events, void (Relay::*handler)(uint32_t));
  void on_master(uint32_t events);
  void on_in(uint32_t) { from_client(); }
  void on_out(uint32_t) { to_client(); }
  void from_master();
  void to_client();
  void from_client();
  void to_master();
  void update();
  void close();

  rpc::Loop& loop_;
  base::Fd master_;
  Stdio io_;
  uint64_t master_watch_ = 0, in_watch_ = 0, out_watch_ = 0, timer_ = 0, retry_ = 0;
  std::string up_, down_;  // read and not yet written: from the client, from the program
  bool in_open_ = false, finishing_ = false, resting_ = false;
};

}  // namespace shim::task
