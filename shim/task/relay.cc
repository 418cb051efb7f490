// SPDX-License-Identifier: Apache-2.0
// Each direction reads only when what it read before has been written, so a side that does not read stops the other.
#include "shim/task/relay.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include "base/sys.h"

namespace shim::task {

namespace sys = base::sys;

Relay::Relay(rpc::Loop& loop, base::Fd master, Stdio io) : loop_(loop), master_(std::move(master)), io_(std::move(io)) {
  IGNORE_ERROR(sys::set_nonblocking(master_.get(), true), "a terminal's master takes it");
  in_open_ = io_.in.valid();
  update();
}

// A descriptor from which nothing is wanted is not watched at all: a hang-up is always told of, again and again.
void Relay::want(uint64_t& watch, int fd, uint32_t events, void (Relay::*handler)(uint32_t)) {
  if (events == 0 || fd < 0) {
    loop_.unwatch(std::exchange(watch, 0));
  } else if (watch != 0) {
    loop_.change(watch, events);
  } else {
    auto w = loop_.watch(fd, events, [this, handler](uint32_t got) { (this->*handler)(got); });
    if (w.ok()) watch = *w;
  }
}

void Relay::update() {
  want(master_watch_, master_.get(), (down_.empty() && !resting_ ? EPOLLIN : 0u) | (up_.empty() ? 0u : EPOLLOUT), &Relay::on_master);
  want(in_watch_, io_.in.get(), in_open_ && up_.empty() ? EPOLLIN : 0u, &Relay::on_in);
  want(out_watch_, io_.out.get(), down_.empty() ? 0u : EPOLLOUT, &Relay::on_out);
}

void Relay::on_master(uint32_t events) {
  if (events & EPOLLOUT) to_master();
  if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) from_master();
}

void Relay::from_master() {
  if (!master_.valid() || !down_.empty() || resting_) return;
  char buf[32768];
  auto n = sys::read(master_.get(), buf, sizeof buf);
  if (n.ok() && *n > 0) {
    if (io_.out.valid()) down_.assign(buf, *n);
    return to_client();
  }
  if (!n.ok() && n.error() == base::kEAGAIN) return;
  // Nobody has the other side open.
  if (finishing_) return close();
  // It may be opened again: do not spin until then.
  resting_ = true;
  retry_ = loop_.after(50, [this] {
    retry_ = 0;
    resting_ = false;
    update();
  });
  update();
}

void Relay::to_client() {
  while (!down_.empty()) {
    auto n = sys::write(io_.out.get(), down_.data(), down_.size());
    if (!n.ok()) {
      if (n.error() == base::kEAGAIN) break;
      down_.clear();  // nobody reads any more; the program goes on
      break;
    }
    down_.erase(0, *n);
  }
  update();
}

void Relay::from_client() {
  if (!up_.empty()) return;
  char buf[8192];
  auto n = sys::read(io_.in.get(), buf, sizeof buf);
  if (!n.ok() && n.error() == base::kEAGAIN) return;
  if (!n.ok() || *n == 0) {
    in_open_ = false;
    return update();
  }
  up_.assign(buf, *n);
  to_master();
}

void Relay::to_master() {
  while (!up_.empty() && master_.valid()) {
    auto n = sys::write(master_.get(), up_.data(), up_.size());
    if (!n.ok()) {
      if (!(n.error() == base::kEAGAIN)) up_.clear();
      break;
    }
    up_.erase(0, *n);
  }
  update();
}

void Relay::close_in() { io_.hold_in.reset(); }

void Relay::finish() {
  if (finishing_) return;
  finishing_ = true;
  if (!master_.valid()) return close();
  timer_ = loop_.after(2000, [this] {
    timer_ = 0;
    close();
  });
  if (resting_) close();
}

void Relay::close() {
  loop_.unwatch(std::exchange(master_watch_, 0));
  loop_.unwatch(std::exchange(in_watch_, 0));
  loop_.unwatch(std::exchange(out_watch_, 0));
  loop_.cancel(std::exchange(timer_, 0));
  loop_.cancel(std::exchange(retry_, 0));
  master_.reset();
  io_ = Stdio();
}

}  // namespace shim::task
