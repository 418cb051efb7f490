// SPDX-License-Identifier: Apache-2.0
// Typed access to JSON members.
#include "runtime/oci/view.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

namespace runtime::oci {

using nlohmann::json;

namespace {

std::string shown(const json& j) {
  std::string s = j.is_structured() ? std::string(j.type_name()) : j.dump(-1, ' ', true, json::error_handler_t::replace);
  if (s.size() > 60) s = s.substr(0, 57) + "...";
  return s;
}

}  // namespace

void Problems::fail(std::string text) {
  if (!first) first = base::Error(base::kEINVAL, std::move(text));
}
void Problems::warn(std::string text) {
  if (warnings.size() < 64) warnings.push_back(std::move(text));
}

bool View::empty() const {
  if (!j_) return true;
  if (j_->is_string()) return j_->get_ref<const std::string&>().empty();
  return j_->is_structured() && j_->empty();
}

View View::operator[](const char* name) const {
  std::string path = path_.empty() ? name : path_ + "." + name;
  if (!j_) return View(nullptr, std::move(path), problems_);
  if (!j_->is_object()) {
    fail(base::format("is {}, must be an object", shown(*j_)));
    return View(nullptr, std::move(path), problems_);
  }
  auto it = j_->find(name);
  bool absent = it == j_->end() || it->is_null();
  return View(absent ? nullptr : &*it, std::move(path), problems_);
}

std::string View::text(std::string_view otherwise) const {
  if (!j_) return std::string(otherwise);
  if (!j_->is_string()) {
    fail(base::format("is {}, must be a string", shown(*j_)));
    return std::string(otherwise);
  }
  const auto& s = j_->get_ref<const std::string&>();
  if (s.find('\0') != std::string::npos) {
    fail("holds a NUL character");
    return std::string(otherwise);
  }
  return s;
}

bool View::flag() const {
  if (!j_) return false;
  if (!j_->is_boolean()) {
    fail(base::format("is {}, must be true or false", shown(*j_)));
    return false;
  }
  return j_->get<bool>();
}

std::optional<int64_t> View::integer(int64_t least, int64_t most) const {
  if (!j_) return std::nullopt;
  bool good = j_->is_number_integer();
  if (good && j_->is_number_unsigned() && j_->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) good = false;
  if (good) {
    int64_t v = j_->get<int64_t>();
    if (v >= least && v <= most) return v;
  }
  fail(base::format("is {}, must be a whole number from {} to {}", shown(*j_), least, most));
  return std::nullopt;
}

std::optional<uint64_t> View::natural(uint64_t most) const {
  if (!j_) return std::nullopt;
  // A number that is not negative is stored unsigned.
  if (j_->is_number_unsigned() && j_->get<uint64_t>() <= most) return j_->get<uint64_t>();
  fail(base::format("is {}, must be a whole number from 0 to {}", shown(*j_), most));
  return std::nullopt;
}

std::vector<View> View::list() const {
  std::vector<View> out;
  if (!j_) return out;
  if (!j_->is_array()) {
    fail(base::format("is {}, must be a list", shown(*j_)));
    return out;
  }
  out.reserve(j_->size());
  for (size_t i = 0; i < j_->size(); i++) {
    const json& e = (*j_)[i];
    out.emplace_back(e.is_null() ? nullptr : &e, path_ + "[" + std::to_string(i) + "]", problems_);
  }
  return out;
}

std::vector<std::string> View::texts() const {
  std::vector<std::string> out;
  for (auto& v : list()) out.push_back(v.text());
  return out;
}

std::vector<std::pair<std::string, View>> View::members() const {
  std::vector<std::pair<std::string, View>> out;
  if (!j_) return out;
  if (!j_->is_object()) {
    fail(base::format("is {}, must be an object", shown(*j_)));
    return out;
  }
  for (auto it = j_->begin(); it != j_->end(); ++it) {
    std::string path = path_ + "." + it.key();
    if (it.key().find('\0') != std::string::npos) fail("has a name that holds a NUL character");
    out.emplace_back(it.key(), View(it->is_null() ? nullptr : &*it, std::move(path), problems_));
  }
  return out;
}

void View::only(std::initializer_list<const char*> names) const {
  if (!j_ || !j_->is_object()) return;
  for (auto it = j_->begin(); it != j_->end(); ++it) {
    bool known = std::any_of(names.begin(), names.end(), [&](const char* n) { return it.key() == n; });
    if (!known && !it->is_null()) {
      problems_->warn(base::format("{}{}{}: not known to this version, ignored", path_, path_.empty() ? "" : ".",
                                   shown(json(it.key()))));
    }
  }
}

void View::unsupported(std::string_view why) const {
  if (!empty()) warn(why);
}
void View::fail(std::string_view what) const {
  problems_->fail(base::format("{} {}", path_.empty() ? "the document" : path_, what));
}
void View::warn(std::string_view what) const { problems_->warn(base::format("{}: {}", path_, what)); }

}  // namespace runtime::oci
