// SPDX-License-Identifier: Apache-2.0
// CLI11 throws; nothing of that leaves this file.
#include "runtime/cmd/flags.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#include <CLI/CLI.hpp>
#pragma GCC diagnostic pop

#include <algorithm>

namespace runtime::cmd {

namespace {

// The usage line says what the verb takes; CLI11 would guess.
class Help final : public CLI::Formatter {
 public:
  explicit Help(std::string usage) : usage_(std::move(usage)) { column_width(34); }
  std::string make_usage(const CLI::App*, std::string) const override { return usage_ + "\n"; }

 private:
  std::string usage_;
};

}  // namespace

struct Flags::Impl {
  CLI::App app;
  std::string name;
};

Flags::Flags(std::string name, std::string usage, std::string description) : impl_(std::make_unique<Impl>()) {
  impl_->app.description(std::move(description));
  impl_->name = name;
  impl_->app.formatter(std::make_shared<Help>("Usage: " + name + " " + usage));
}
Flags::~Flags() = default;

void Flags::flag(const std::string& names, bool& v, const std::string& help) { impl_->app.add_flag(names, v, help); }
void Flags::constant(const std::string& names, std::string& v, const std::string& to, const std::string& help) {
  impl_->app.add_flag_callback(names, [&v, to] { v = to; }, help);
}
void Flags::value(const std::string& names, std::string& v, const std::string& help) {
  impl_->app.add_option(names, v, help)->take_last();
}
void Flags::value(const std::string& names, int64_t& v, const std::string& help) {
  impl_->app.add_option(names, v, help)->take_last();
}
void Flags::choice(const std::string& names, std::string& v, std::vector<std::string> of, const std::string& help) {
  impl_->app.add_option(names, v, help)->take_last()->check(CLI::IsMember(std::move(of)));
}
void Flags::list(const std::string& names, std::vector<std::string>& v, const std::string& help) {
  impl_->app.add_option(names, v, help)->allow_extra_args(false);
}

base::ResultX<bool> Flags::parse(const std::vector<std::string>& args, std::vector<std::string>* rest,
                                 bool stop_at_first) {
  try {
    if (stop_at_first) impl_->app.prefix_command();
    else impl_->app.allow_extras();
    std::vector<std::string> reversed(args.rbegin(), args.rend());
    impl_->app.parse(reversed);
    *rest = impl_->app.remaining();
    // A leading "--" only says that flags end here.
    if (stop_at_first && !rest->empty() && rest->front() == "--") rest->erase(rest->begin());
    if (!stop_at_first) {
      for (auto& r : *rest) {
        if (r.size() > 1 && r[0] == '-' && std::find(args.begin(), args.end(), "--") == args.end()) {
          return base::error(base::kEINVAL, "unknown flag {} (see {} --help)", r, impl_->name);
        }
      }
    } else if (!rest->empty() && rest->front().size() > 1 && rest->front()[0] == '-') {
      return base::error(base::kEINVAL, "unknown flag {} (see {} --help)", rest->front(), impl_->name);
    }
    return true;
  } catch (const CLI::CallForHelp&) {
    std::string text = impl_->app.help();
    fwrite(text.data(), 1, text.size(), stdout);
    return false;
  } catch (const CLI::Error& e) {
    return base::error(base::kEINVAL, "{} (see {} --help)", e.what(), impl_->name);
  }
}

}  // namespace runtime::cmd
