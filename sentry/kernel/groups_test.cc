// SPDX-License-Identifier: Apache-2.0
// Numbers, process groups and sessions, on processes that never run.
#include <gtest/gtest.h>

#include "sentry/kernel/internal.h"

namespace sentry::kernel {
namespace {

class NoCalls final : public CallHandler {
  Result<long> handle(Task&, const platform::Call&) override { return kENOSYS; }
};

struct Process {
  Ref<Task> task;
  Ref<ThreadGroup> group;
  int pid() const { return group->pid(); }
};

class Groups : public testing::Test {
 protected:
  // A child of `parent` in its process group; without one, a session of its own.
  Process make(const Process* parent, RefOrNull<PidNamespace> ns = nullptr) {
    Ref<Task> t = TaskAccess::make_task(kernel_);
    Ref<ThreadGroup> g = TaskAccess::make_group(kernel_);
    TaskAccess::group(*t) = g;
    if (!ns) ns = ns_;
    MutexLock l(task_set_lock);
    t->impl().ids = allocate_pid_locked(ns.get_ref()).value();
    g->impl().ids = t->impl().ids;
    t->impl().tid = g->impl().pid = t->impl().ids.front().number;
    if (parent) {
      g->impl().parent = parent->group.get();
      parent->group->impl().children.push_back(g);
      enter_process_group_locked(*g, parent->group->impl().process_group.get_ref());
    } else {
      enter_process_group_locked(*g, new_process_group_locked(*g, new_session_locked(*g)));
    }
    link_task_locked(*t);
    made_.push_back({t, g});
    return {t, g};
  }
  void end(const Process& p) {
    MutexLock l(task_set_lock);
    end_locked(p);
  }
  // Tables and tasks hold each other until a process has ended.
  ~Groups() override {
    MutexLock l(task_set_lock);
    for (auto p = made_.rbegin(); p != made_.rend(); ++p) end_locked(*p);
  }
  NoCalls calls_;
  Kernel kernel_{calls_};
  Ref<PidNamespace> ns_ = PidNamespace::create(nullptr);

 private:
  static void end_locked(const Process& p) REQUIRES(task_set_lock) {
    p.group->impl().zombie = true;
    unlink_task_locked(*p.task);
    reap_locked(*p.group);
  }
  std::vector<Process> made_;
};

TEST_F(Groups, NumbersBeginWithOneAndAreNotGivenAgainAtOnce) {
  Process a = make(nullptr), b = make(&a);
  EXPECT_EQ(a.pid(), 1);
  EXPECT_EQ(b.pid(), 2);
  end(b);
  EXPECT_FALSE(ns_->find_group(2));
  Process c = make(&a);
  EXPECT_EQ(c.pid(), 3);
  EXPECT_EQ(ns_->last_pid(), 3);
}

TEST_F(Groups, NumbersWrapPastTheReservedOnes) {
  Process init = make(nullptr);
  {
    MutexLock l(task_set_lock);
    ns_->impl().last = 32766;
  }
  Process a = make(&init), b = make(&init);
  EXPECT_EQ(a.pid(), 32767);
  EXPECT_EQ(b.pid(), 300);
}

TEST_F(Groups, ANumberIsTakenWhileAGroupIsNamedByIt) {
  Process init = make(nullptr), leader = make(&init), member = make(&init);
  ASSERT_TRUE(set_process_group(*leader.task, 0, 0).ok());
  {
    MutexLock l(task_set_lock);
    enter_process_group_locked(*member.group, leader.group->impl().process_group.get_ref());
  }
  const int id = leader.pid();
  end(leader);
  EXPECT_FALSE(ns_->find_group(id));
  EXPECT_TRUE(ns_->find_process_group(id));
  {
    MutexLock l(task_set_lock);
    ns_->impl().last = id - 1;
  }
  Process next = make(&init);
  EXPECT_NE(next.pid(), id);
  end(member);
  EXPECT_FALSE(ns_->find_process_group(id));
}

TEST_F(Groups, AChildNamespaceCountsForItself) {
  Process init = make(nullptr);
  Ref<PidNamespace> inner = PidNamespace::create(ns_);
  Process p = make(&init, inner);
  EXPECT_EQ(p.group->pid_in(*inner), 1);
  EXPECT_EQ(p.group->pid_in(*ns_), 2);
  EXPECT_EQ(init.group->pid_in(*inner), 0);
  EXPECT_EQ(p.group->ppid_in(*inner), 0);
  EXPECT_EQ(p.group->ppid_in(*ns_), 1);
  EXPECT_EQ(inner->find_task(1).get(), p.task.get());
  EXPECT_EQ(ns_->find_task(2).get(), p.task.get());
}

TEST_F(Groups, ADyingNamespaceTakesNobody) {
  MutexLock l(task_set_lock);
  ns_->impl().dying = true;
  EXPECT_EQ(allocate_pid_locked(ns_).error(), kENOMEM);
}

TEST_F(Groups, SetpgidFollowsItsRules) {
  Process shell = make(nullptr), job = make(&shell), other = make(&shell), stranger = make(nullptr);
  EXPECT_TRUE(set_process_group(*shell.task, job.pid(), 0).ok());
  EXPECT_EQ(job.group->process_group()->id_in(*ns_), job.pid());
  EXPECT_TRUE(set_process_group(*shell.task, other.pid(), job.pid()).ok());
  EXPECT_EQ(other.group->process_group()->id_in(*ns_), job.pid());
  EXPECT_EQ(set_process_group(*shell.task, 0, 0).error(), kEPERM);                  // a session leader
  EXPECT_EQ(set_process_group(*shell.task, 999, 0).error(), kESRCH);
  EXPECT_EQ(set_process_group(*shell.task, stranger.pid(), 0).error(), kESRCH);     // not a child
  EXPECT_EQ(set_process_group(*other.task, 0, stranger.pid()).error(), kEPERM);     // another session
  EXPECT_EQ(set_process_group(*other.task, 0, 777).error(), kEPERM);                // no such group
  EXPECT_EQ(set_process_group(*other.task, 0, -1).error(), kEINVAL);
  {
    MutexLock l(task_set_lock);
    job.group->impl().did_exec = true;
  }
  EXPECT_EQ(set_process_group(*shell.task, job.pid(), 0).error(), kEACCES);
}

TEST_F(Groups, SetsidFollowsItsRules) {
  Process shell = make(nullptr), job = make(&shell);
  EXPECT_EQ(set_session(*shell.task).error(), kEPERM);
  Result<long> sid = set_session(*job.task);
  ASSERT_TRUE(sid.ok());
  EXPECT_EQ(*sid, job.pid());
  EXPECT_EQ(job.group->session()->id_in(*ns_), job.pid());
  EXPECT_EQ(job.group->process_group()->id_in(*ns_), job.pid());
  EXPECT_EQ(ns_->find_session(job.pid()).get(), job.group->session().get());
}

TEST_F(Groups, AGroupIsOrphanedWithoutAParentInItsSession) {
  Process shell = make(nullptr), job = make(&shell), helper = make(&job);
  ASSERT_TRUE(set_process_group(*shell.task, job.pid(), 0).ok());
  {
    MutexLock l(task_set_lock);
    enter_process_group_locked(*helper.group, job.group->impl().process_group.get_ref());
  }
  EXPECT_TRUE(shell.group->process_group()->is_orphaned());
  EXPECT_FALSE(job.group->process_group()->is_orphaned());
  MutexLock l(task_set_lock);
  // The one that had its parent in the shell's group is about to go.
  EXPECT_TRUE(orphaned_locked(*job.group->impl().process_group, job.group.get()));
}

TEST_F(Groups, ASessionEndsWithItsLastGroup) {
  Process shell = make(nullptr), job = make(&shell);
  ASSERT_TRUE(set_process_group(*shell.task, job.pid(), 0).ok());
  const int sid = shell.pid();
  end(shell);
  EXPECT_TRUE(ns_->find_session(sid));
  end(job);
  EXPECT_FALSE(ns_->find_session(sid));
}


}  // namespace
}  // namespace sentry::kernel
