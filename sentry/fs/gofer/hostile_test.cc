// SPDX-License-Identifier: Apache-2.0
// A gofer that has been taken over, or dies.
#include "sentry/fs/gofer/host_inode.h"
#include "sentry/fs/gofer/test_gofer.h"

namespace sentry::fs::gofer {
namespace {

using wire::Op;

void files(TestHost& h) {
  h.put("0/f", "text");
  h.put("0/g", "other");
  h.make_dir("0/d");
  h.put("0/d/x", "x");
}

// The tag of a reply is its first field.
uint64_t tag_of(const ::gofer::Answer& a) { return must(wire::reply_tag(a.bytes)); }

// body(tree) with replies to `op` changed by `change`; then the rest of the conversation.
template <typename Change, typename Body>
void with_lies(Op op, Change change, Body body) {
  with_gofer(files, [&](TestHost& h, const Ref<Client>& c) {
    auto t = Tree::of(c, {.index = 0});
    h.tamper = [&](Op o, ::gofer::Answer& a) {
      if (o == op) change(h, a);
    };
    body(t, static_cast<Channel&>(*c));
    h.stop();
    h.tamper = nullptr;
  });
}

TEST(GoferHostile, AReplyToNothingEndsTheConversation) {
  with_lies(Op::kWalk, [](TestHost&, auto& a) { a.bytes = wire::encode_error(tag_of(a) + 1, kENOENT); },
            [](Tree& t, Channel& c) {
              EXPECT_EQ(error_of(t.walk("/f")), EIO);
              EXPECT_TRUE(c.broken());
              EXPECT_EQ(error_of(t.walk("/g")), EIO);
            });
}

TEST(GoferHostile, MalformedBodiesEndTheConversation) {
  with_lies(Op::kWalk, [](TestHost&, auto& a) { a.bytes.pop_back(); },
            [](Tree& t, Channel& c) {
              EXPECT_EQ(error_of(t.walk("/f")), EIO);
              EXPECT_TRUE(c.broken());
            });
}

TEST(GoferHostile, RecordsWithoutATagEndTheConversation) {
  with_lies(Op::kWalk, [](TestHost&, auto& a) { a.bytes.resize(3); },
            [](Tree& t, Channel& c) {
              EXPECT_EQ(error_of(t.walk("/f")), EIO);
              EXPECT_TRUE(c.broken());
            });
}

TEST(GoferHostile, OversizedRecordsFailTheirRequest) {
  with_lies(Op::kWalk, [](TestHost&, auto& a) { a.bytes.resize(wire::kMaxRecord + 100); },
            [](Tree& t, Channel&) { EXPECT_NE(error_of(t.walk("/f")), 0); });
}

TEST(GoferHostile, DescriptorsThatNobodyAskedForEndTheConversation) {
  with_lies(Op::kWalk, [](TestHost& h, auto& a) { a.fds.push_back(must(sys::open(h.path("0/f").c_str(), O_RDONLY))); },
            [](Tree& t, Channel& c) {
              EXPECT_EQ(error_of(t.walk("/f")), EIO);
              EXPECT_TRUE(c.broken());
            });
}

TEST(GoferHostile, DonatedDescriptorsMustBeTheRegularFile) {
  for (const char* what : {"0/g", "0/d", "/dev/null", "/dev/zero"}) {
    with_lies(Op::kOpen,
              [&](TestHost& h, auto& a) {
                std::string p = what[0] == '/' ? what : h.path(what);
                a.fds[0] = must(sys::open(p.c_str(), O_RDONLY | O_CLOEXEC));
              },
              [&](Tree& t, Channel&) {
                EXPECT_EQ(error_of(t.open("/f", O_RDONLY)), EIO) << what;
                EXPECT_TRUE(t.walk("/d/x").ok());
              });
  }
}

TEST(GoferHostile, AReadOnlyDonationMustNotBeWritable) {
  with_lies(Op::kOpen, [](TestHost& h, auto& a) { a.fds[0] = must(sys::open(h.path("0/f").c_str(), O_RDWR | O_CLOEXEC)); },
            [](Tree& t, Channel&) { EXPECT_EQ(error_of(t.open("/f", O_RDONLY)), EIO); });
}

TEST(GoferHostile, MissingDescriptorsEndTheConversation) {
  with_lies(Op::kOpen, [](TestHost&, auto& a) { a.fds.clear(); },
            [](Tree& t, Channel& c) {
              EXPECT_EQ(error_of(t.open("/f", O_RDONLY)), EIO);
              EXPECT_TRUE(c.broken());
            });
}

TEST(GoferHostile, TooManyDescriptorsFailTheRequest) {
  with_lies(Op::kOpen,
            [](TestHost& h, auto& a) {
              while (a.fds.size() < wire::kMaxFds + 4) a.fds.push_back(must(sys::open(h.path("0/f").c_str(), O_RDONLY | O_CLOEXEC)));
            },
            [](Tree& t, Channel&) { EXPECT_NE(error_of(t.open("/f", O_RDONLY)), 0); });
}

// Files opened ahead: nobody reads what is not the file, and whatever cannot be ends the conversation.
TEST(GoferHostile, OpenedAheadIsCheckedAsWell) {
  enum Lie { swapped, missing, short_reply, no_first };
  for (Lie lie : {swapped, missing, short_reply, no_first}) {
    TestHost host;
    host.make_dir("0/n");
    for (int i = 0; i < 20; i++) host.put("0/n/" + std::to_string(10 + i), std::to_string(10 + i));
    host.tamper = [&](Op op, auto& a) {
      if (op != Op::kOpenAhead || a.fds.size() < 3) return;
      if (lie == swapped) std::swap(a.fds[1], a.fds[2]);
      if (lie == missing) a.fds.pop_back();
      if (lie < short_reply) return;
      auto r = must(wire::decode_reply<wire::OpenAheadRequest>(a.bytes));
      if (lie == short_reply) r.opened.pop_back();
      else r.opened[0].node = 0, a.fds.pop_back();
      a.bytes = wire::encode_reply(tag_of(a), r);
    };
    Fd socket = host.start();
    sched::on_scheduler(2, [&] {
      auto c = must(Channel::create(std::move(socket), Waiting::asleep));
      auto t = Tree::of(c, {.index = 0});
      t.list("/n");
      for (int i = 0; i < 20; i++) {
        auto f = t.open("/n/" + std::to_string(10 + i), O_RDONLY);
        if (!f.ok()) {
          EXPECT_EQ(error_of(f), EIO);
          EXPECT_NE(lie, swapped) << "can be asked for again";
          continue;
        }
        EXPECT_EQ(t.get("/n/" + std::to_string(10 + i)), std::to_string(10 + i));
      }
      EXPECT_EQ(c->broken(), lie != swapped);
    });
  }
}

TEST(GoferHostile, NamesInListingsAreChecked) {
  for (const char* name : {"..", ".", "a/b", ""}) {
    with_lies(Op::kReadDir,
              [&](TestHost&, auto& a) {
                wire::ReadDirReply r;
                wire::Dirent e;
                e.name = name;
                r.entries = {e};
                r.end = true;
                a.bytes = wire::encode_reply(tag_of(a), r);
              },
              [&](Tree& t, Channel&) {
                auto d = t.open("/d", O_RDONLY | O_DIRECTORY);
                ASSERT_TRUE(d.ok());
                struct : vfs::DirectorySink {
                  bool add(std::string_view n, uint64_t, unsigned char, int64_t) override {
                    EXPECT_TRUE(n == "." || n == "..");
                    return true;
                  }
                } sink;
                EXPECT_EQ(error_of((*d)->read_directory(sink, &(*d)->position)), EIO) << name;
              });
  }
}

TEST(GoferHostile, TreesInListingsAreChecked) {
  auto tree = [](TestHost& h) {
    files(h);
    for (const char* d : {"0/d/a", "0/d/b", "0/d/c", "0/d/d", "0/d/d/e"}) h.make_dir(d);
  };
  for (int lie = 0; lie < 7; lie++) {
    with_gofer(tree, [&](TestHost& h, const Ref<Client>& c) {
      auto t = Tree::of(c, {.index = 0});
      bool told = false;
      h.tamper = [&](Op o, ::gofer::Answer& a) {
        if (o != Op::kReadDirs) return;
        auto r = must(wire::decode_reply<wire::ReadDirsRequest>(a.bytes));
        wire::ListedDir& last = r.listed.back();
        switch (lie) {
          case 0: last.in = static_cast<uint32_t>(r.listed.size()); break;  // in itself
          case 1: last.in = UINT32_MAX; break;
          case 2: last.name = "../x"; break;
          case 3: last.name = "other"; last.in = 0; break;
          case 4: last.attr.mode = S_IFREG | 0644; break;
          case 5: r.listed.push_back(last); r.listed.back().in = 0; break;  // more than was asked for
          case 6:
            last.entries.emplace_back();
            last.entries.back().name = "..";
            break;
        }
        told = true;
        a.bytes = wire::encode_reply(tag_of(a), r);
      };
      bool refused = false;
      for (const char* d : {"/", "/d", "/d/a", "/d/b", "/d/c", "/d/d", "/d/d/e"}) {
        auto f = t.open(d, O_RDONLY | O_DIRECTORY);
        if (!f.ok()) continue;
        struct : vfs::DirectorySink {
          bool add(std::string_view n, uint64_t, unsigned char, int64_t) override {
            EXPECT_TRUE(n == "." || n == ".." || n.size() == 1) << n;
            return true;
          }
        } sink;
        refused |= !(*f)->read_directory(sink, &(*f)->position).ok();
      }
      EXPECT_TRUE(told);
      EXPECT_TRUE(refused && static_cast<Channel&>(*c).broken()) << lie;
      h.stop();
      h.tamper = nullptr;
    });
  }
}

TEST(GoferHostile, AListingWithoutEndIsNotReadForEver) {
  with_lies(Op::kReadDir,
            [](TestHost&, auto& a) {
              wire::ReadDirReply r;
              a.bytes = wire::encode_reply(tag_of(a), r);
            },
            [](Tree& t, Channel&) {
              auto d = t.open("/d", O_RDONLY | O_DIRECTORY);
              ASSERT_TRUE(d.ok());
              struct : vfs::DirectorySink {
                bool add(std::string_view, uint64_t, unsigned char, int64_t) override { return true; }
              } sink;
              EXPECT_EQ(error_of((*d)->read_directory(sink, &(*d)->position)), EIO);
            });
}

TEST(GoferHostile, KindsOfObjectsDoNotChange) {
  with_lies(Op::kGetAttr,
            [](TestHost&, auto& a) {
              auto r = wire::decode_reply<wire::GetAttrRequest>(a.bytes);
              r->attr.mode = S_IFDIR | 0755;
              a.bytes = wire::encode_reply(tag_of(a), *r);
            },
            [](Tree& t, Channel&) {
              auto f = t.must_open("/f", O_RDWR);
              ASSERT_TRUE(Tree::write(*f, "TEXT").ok());
              EXPECT_FALSE(f->inode().attributes().ok());
              EXPECT_TRUE(f->inode().is_regular());
            });
}

TEST(GoferHostile, WalksFindNoMoreThanWasAsked) {
  with_lies(Op::kWalk,
            [](TestHost&, auto& a) {
              auto r = wire::decode_reply<wire::WalkRequest>(a.bytes);
              while (r->found.size() < 5) r->found.push_back(r->found[0]);
              a.bytes = wire::encode_reply(tag_of(a), *r);
            },
            [](Tree& t, Channel& c) {
              EXPECT_EQ(error_of(t.walk("/f")), EIO);
              EXPECT_TRUE(c.broken());
            });
}

TEST(GoferHostile, SizesStayWithinRange) {
  with_lies(Op::kWalk,
            [](TestHost&, auto& a) {
              auto r = wire::decode_reply<wire::WalkRequest>(a.bytes);
              r->found[0].attr.size = UINT64_MAX;
              r->found[0].attr.mtime = INT64_MIN;
              a.bytes = wire::encode_reply(tag_of(a), *r);
            },
            [](Tree& t, Channel&) {
              auto f = t.must_open("/f", O_RDONLY);
              EXPECT_EQ(must(f->seek(0, SEEK_END)), INT64_MAX);
              auto a = f->inode().attributes();
              EXPECT_LE(a->size, static_cast<uint64_t>(INT64_MAX));
              EXPECT_GE(a->mtime.tv_nsec, 0);
            });
}

TEST(GoferHostile, ItsDeathFailsAllThatWaits) {
  auto body = [](TestHost& h, const Ref<Client>& c) {
    auto t = Tree::of(c, {.index = 0});
    auto open = t.must_open("/f", O_RDONLY);
    h.tamper = [](Op, ::gofer::Answer& a) { a.kind = ::gofer::Answer::Kind::hang_up; };
    std::atomic<int> failed{0};
    sched::Group g;
    for (int i = 0; i < 100; i++)
      g.add([&, i] {
        if (error_of(t.walk("/n" + std::to_string(i))) == EIO) failed++;
      });
    // The server's loop has ended; what still waits learns of it when the socket goes.
    while (failed.load() < 100) {
      h.stop();
      sched::park(sched::now() + sched::kMs);
    }
    g.join();
    EXPECT_EQ(failed.load(), 100);
    EXPECT_EQ(Tree::read(*open, 100), "text");  // what was donated stays
    EXPECT_EQ(error_of(backing(c, Store::disk)->create()), EIO);
    EXPECT_EQ(error_of(attach(c, {.index = 0})), EIO);
  };
  for (Waiting waiting : {Waiting::asleep, Waiting::awake}) with_gofer(files, body, waiting);
}

TEST(GoferHostile, AnotherVersionIsRefused) {
  TestHost host;
  host.tamper = [](Op, ::gofer::Answer& a) { a.bytes = wire::encode_reply(tag_of(a), wire::HelloReply{wire::kVersion + 1, 4}); };
  Fd socket = host.start();
  sched::on_scheduler(1, [&] { EXPECT_EQ(error_of(connect(std::move(socket))), EPROTO); });
}

}  // namespace
}  // namespace sentry::fs::gofer
