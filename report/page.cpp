#include "report/page.h"

#include <fstream>

#include "core/error.h"
#include "core/file.h"
#include "core/output_place.h"
#include "report/line_plot_views.h"
#include "report/page_assets.h"

namespace braid {
namespace {

// By which a file is known as a page of Braid's.
constexpr std::string_view kGenerator = "<meta name=\"generator\" content=\"Braid\"/>";

std::string element(std::string_view name,
                    const Markup::Attributes& attributes,
                    const std::string& content) {
  return Markup().leaf(name, attributes, content).line().take();
}

std::string section_id(std::size_t number) {
  return text("section-", number + 1);
}

// A choice among names, as radio buttons: reached and changed with the keyboard.
void add_choice(Markup& html,
                const std::string& name,
                const std::string& legend,
                const std::vector<std::string>& choices,
                std::size_t chosen) {
  html.open("fieldset").leaf("legend", {}, legend);
  for (std::size_t i = 0; i < choices.size(); ++i) {
    html.open("label");
    Markup::Attributes attributes = {{"type", "radio"}, {"name", name}, {"value", text(i)}};
    if (i == chosen) {
      attributes.emplace_back("checked", "checked");
    }
    html.leaf("input", attributes).leaf("span", {}, choices[i]).close();
  }
  html.close().line();
}

std::vector<std::string> smoothing_names() {
  std::vector<std::string> names;
  for (const double share : kSmoothing) {
    names.push_back(share == 0 ? "none" : number_text(share, NumberStyle::kPercent));
  }
  return names;
}

// Hidden until the script shows them: without it they would do nothing.
void add_controls(Markup& html, const Page::Options& options) {
  if (options.x_axes.empty()) {
    return;
  }
  html.open("form", {{"class", "controls"}, {"hidden", "hidden"}, {"aria-label", "all plots"}});
  add_choice(html, "axis", "x axis", options.x_axes, 0);
  add_choice(html, "view", "show", {kViews.begin(), kViews.end()}, 0);
  add_choice(html, "smoothing", "smoothing", smoothing_names(), options.smoothing);
  html.close().line();
}

void add_contents(Markup& html, const std::vector<std::pair<std::string, std::string>>& titles) {
  if (titles.size() < 2) {
    return;
  }
  html.open("nav", {{"aria-label", "sections"}});
  for (const auto& [id, title] : titles) {
    html.leaf("a", {{"href", "#" + id}}, title).text(" ");
  }
  html.close().line();
}

bool is_page(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string begin(1000, '\0');
  file.read(begin.data(), static_cast<std::streamsize>(begin.size()));
  return file.gcount() == 0 || begin.find(kGenerator) != std::string::npos;
}

}  // namespace

Page::Page(Options options) : options_(std::move(options)) {}

void Page::subtitle(const std::string& text) {
  head_ += element("p", {{"class", "subtitle"}}, text);
}

void Page::warning(const std::string& text) {
  head_ += element("p", {{"class", "warning"}}, text);
}

void Page::section(const std::string& title) {
  if (!sections_.empty() && sections_.back().in_figures) {
    add("");
  }
  sections_.push_back({title, "", false});
}

Page::Section& Page::current() {
  require(!sections_.empty(), "[Page] no section was begun");
  return sections_.back();
}

// What is no figure ends the row of figures.
void Page::add(const std::string& markup) {
  auto& section = current();
  section.content += section.in_figures ? "</div>\n" : "";
  section.in_figures = false;
  section.content += markup;
}

void Page::paragraph(const std::string& text) {
  add(element("p", {}, text));
}

void Page::figure(const std::string& markup) {
  auto& section = current();
  section.content += section.in_figures ? "" : "<div class=\"figures\">\n";
  section.in_figures = true;
  section.content += markup;
}

void Page::table(const PageTable& table) {
  Markup html;
  std::vector<bool> right;
  html.open("div", {{"class", "wide"}, {"tabindex", "0"}}).open("table");
  if (!table.caption.empty()) {
    html.leaf("caption", {}, table.caption);
  }
  html.open("thead").open("tr");
  for (const auto& title : table.titles) {
    right.push_back(title.starts_with('>'));
    html.leaf("th",
              {{"scope", "col"}, {"class", right.back() ? "number" : ""}},
              std::string_view(title).substr(right.back() ? 1 : 0));
  }
  html.close().close().line().open("tbody");
  for (const auto& row : table.rows) {
    require(row.size() == right.size(), "[PageTable] a row of ", row.size(), " cells");
    html.open("tr");
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string classes = (right[i] ? "number " : "") + row[i].mark;
      i == 0 ? html.leaf("th", {{"scope", "row"}, {"class", classes}}, row[i].text)
             : html.leaf("td", {{"class", classes}}, row[i].text);
    }
    html.close().line();
  }
  add(html.close().close().close().line().take());
}

void Page::preformatted(const std::string& title,
                        const std::string& text,
                        bool is_open,
                        const std::string& begin) {
  Markup html;
  const Markup::Attributes open = {{"open", "open"}};
  html.open("details", is_open ? open : Markup::Attributes{}).leaf("summary", {}, title);
  html.open("pre", {{"tabindex", "0"}});
  if (!begin.empty()) {
    html.leaf("b", {}, begin);
  }
  html.text(text).close().close().line();
  add(html.take());
}

std::string Page::html() const {
  Markup html;
  html.raw("<!DOCTYPE html>\n");
  html.open("html", {{"lang", "en"}, {"xmlns", "http://www.w3.org/1999/xhtml"}}).line();
  html.open("head").leaf("meta", {{"charset", "utf-8"}}).line();
  html.leaf("meta", {{"name", "viewport"}, {"content", "width=device-width, initial-scale=1"}});
  html.raw(kGenerator).line();
  html.leaf("meta", {{"name", "color-scheme"}, {"content", "light dark"}});
  if (options_.refresh_seconds > 0) {
    html.leaf("meta", {{"http-equiv", "refresh"}, {"content", text(options_.refresh_seconds)}});
  }
  html.line().leaf("title", {}, options_.title).line();
  html.open("style").raw(kPageStyle).close().line().close().line().open("body").line();
  html.open("header").leaf("h1", {}, options_.title).line().raw(head_);
  std::vector<std::pair<std::string, std::string>> titles;
  for (std::size_t i = 0; i < sections_.size(); ++i) {
    if (!sections_[i].content.empty()) {
      titles.emplace_back(section_id(i), sections_[i].title);
    }
  }
  add_contents(html, titles);
  html.close().line();
  add_controls(html, options_);
  html.open("main").line();
  for (std::size_t i = 0; i < sections_.size(); ++i) {
    const auto& [title, content, in_figures] = sections_[i];
    if (!content.empty()) {
      html.open("section", {{"id", section_id(i)}}).leaf("h2", {}, title).line();
      html.raw(content).raw(in_figures ? "</div>\n" : "").close().line();
    }
  }
  html.close().line();
  html.leaf("p", {{"class", "live"}, {"role", "status"}, {"aria-live", "polite"}}).line();
  html.open("script").raw(kPageScript).close().line();
  return html.close().line().close().line().take();
}

void write_page(const std::filesystem::path& path, const std::string& html) {
  const auto place = output_place(path);
  require(
      place.through || !std::filesystem::exists(place.path) || is_page(place.path),
      path.string(),
      ": exists and is no page of Braid's, so it is not replaced; choose another name or remove "
      "it");
  write_file_atomically(path, html);
}

}  // namespace braid
