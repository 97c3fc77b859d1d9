#include "tests/report/well_formed.h"

#include <algorithm>
#include <array>
#include <set>
#include <vector>

#include "core/error.h"

namespace braid::testing {
namespace {

class XmlReader {
 public:
  explicit XmlReader(std::string_view xml) : xml_(xml) {}

  std::string problem() {
    try {
      read();
      return "";
    } catch (const Error& error) {
      return text(error.what(), " before: ", xml_.substr(at_, 60));
    }
  }

 private:
  bool begins(std::string_view with) const { return xml_.substr(at_).starts_with(with); }

  std::string_view until(std::string_view end) {
    const auto found = xml_.find(end, at_);
    require(found != std::string_view::npos, "no ", end);
    const auto result = xml_.substr(at_, found - at_);
    at_ = found + end.size();
    return result;
  }

  std::string name() {
    const auto begin = at_;
    while (at_ < xml_.size() && (std::isalnum(static_cast<unsigned char>(xml_[at_])) != 0 ||
                                 xml_[at_] == '-' || xml_[at_] == ':')) {
      ++at_;
    }
    require(at_ > begin, "no name");
    return std::string(xml_.substr(begin, at_ - begin));
  }

  void skip_space() {
    while (at_ < xml_.size() && std::isspace(static_cast<unsigned char>(xml_[at_])) != 0) {
      ++at_;
    }
  }

  static void check_text(std::string_view part) {
    for (std::size_t i = 0; i < part.size(); ++i) {
      const auto c = static_cast<unsigned char>(part[i]);
      require(c >= 0x20 || c == '\n' || c == '\t', "a control character in: ", part);
      require(c != '<', "< in: ", part);
      if (c == '&') {
        constexpr std::array<std::string_view, 4> kEntities = {"&amp;", "&lt;", "&gt;", "&quot;"};
        require(std::any_of(kEntities.begin(),
                            kEntities.end(),
                            [&](auto entity) { return part.substr(i).starts_with(entity); }),
                "& in: ",
                part);
      }
    }
  }

  void open_element() {
    const auto element = name();
    std::set<std::string> attributes;
    for (;;) {
      skip_space();
      if (begins("/>")) {
        at_ += 2;
        return;
      }
      if (begins(">")) {
        ++at_;
        open_.push_back(element);
        return;
      }
      const auto attribute = name();
      require(attributes.insert(attribute).second, attribute, " twice in ", element);
      require(begins("=\""), "no value of ", attribute);
      at_ += 2;
      const auto value = until("\"");
      check_text(value);
      if (attribute == "id") {
        require(ids_.insert(std::string(value)).second, "id ", value, " twice");
      }
    }
  }

  void read() {
    if (begins("<!DOCTYPE html>")) {
      until(">");
    }
    skip_space();
    bool has_root = false;
    while (at_ < xml_.size()) {
      if (begins("<![CDATA[")) {
        until("]]>");
      } else if (begins("<!--")) {
        until("-->");
      } else if (begins("</")) {
        at_ += 2;
        const auto element = name();
        require(!open_.empty() && open_.back() == element, "</", element, "> closes nothing");
        open_.pop_back();
        require(begins(">"), "no >");
        ++at_;
      } else if (begins("<")) {
        require(!open_.empty() || !has_root, "a second root");
        has_root = true;
        ++at_;
        open_element();
      } else {
        const auto end = std::min(xml_.find('<', at_), xml_.size());
        const auto part = xml_.substr(at_, end - at_);
        check_text(part);
        require(!open_.empty() || part.find_first_not_of(" \n") == std::string_view::npos,
                "text outside of the root");
        at_ = end;
      }
    }
    require(has_root && open_.empty(), "not closed");
  }

  std::string_view xml_;
  std::size_t at_ = 0;
  std::vector<std::string> open_;
  std::set<std::string> ids_;
};

}  // namespace

std::string problem_of_xml(std::string_view xml) {
  return XmlReader(xml).problem();
}

}  // namespace braid::testing
