// Virtual inheritance, RTTI, exceptions with cleanups, std::variant visits, lambdas, static initialisers and
// tables of member functions.
#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <typeinfo>
#include <variant>
#include <vector>

struct Base { virtual ~Base() = default; virtual int id() const = 0; int tag = 7; };
struct Left : virtual Base { int id() const override { return 1; } virtual std::string left() const { return "left"; } };
struct Right : virtual Base { int id() const override { return 2; } virtual std::string right() const { return "right"; } };
struct Both : Left, Right {
  int id() const override { return Left::id() + Right::id(); }
  std::string right() const override { return left() + Right::right(); }
};
using Value = std::variant<long, double, std::string, std::vector<long>>;
struct Printer {
  std::string operator()(long v) const { return std::to_string(v); }
  std::string operator()(double v) const { return std::to_string(v); }
  std::string operator()(const std::string &v) const { return '"' + v + '"'; }
  std::string operator()(const std::vector<long> &v) const { std::string s; for (long n : v) s += std::to_string(n) + ','; return s; }
};
struct Failure : std::runtime_error { int code; Failure(int c, const std::string &w) : std::runtime_error(w), code(c) {} };
struct Cleanup { std::function<void()> f; ~Cleanup() { f(); } };

int classify(const std::exception &e) {
  if (auto *f = dynamic_cast<const Failure *>(&e)) return f->code;
  if (typeid(e) == typeid(std::out_of_range)) return 40;
  return 99;
}
const char *status(int code) {
  switch (code) {
    case 0: return "ok"; case 1: return "created"; case 2: return "accepted"; case 3: return "moved";
    case 4: return "not modified"; case 5: return "bad request"; case 6: return "forbidden";
    case 7: return "not found"; case 8: return "conflict"; case 9: return "gone"; default: return "unknown";
  }
}
class Service {
  std::map<std::string, Value> store;
  int get(const std::string &k) { (void)store.at(k); return 0; }
  int put(const std::string &k) { store[k] = static_cast<long>(k.size()); return 1; }
  int drop(const std::string &k) { if (!store.erase(k)) throw Failure(7, "no " + k); return 4; }
  int bump(const std::string &k) {
    return std::visit([&](auto &v) -> int {
      using T = std::decay_t<decltype(v)>;
      if constexpr (std::is_arithmetic_v<T>) { v += 1; return 2; } else if constexpr (std::is_same_v<T, std::string>) { v += '+'; return 3; } else { v.push_back(1); return 5; }
    }, store[k]);
  }
  struct Command { const char *name; int (Service::*method)(const std::string &); };
  static const Command commands[4];
public:
  int run(const std::string &name, const std::string &key) {
    Cleanup c{[&] { last = name; }};
    for (const auto &command : commands) if (name == command.name) return (this->*command.method)(key);
    throw Failure(5, "no command " + name);
  }
  std::string dump() const { std::string s; for (const auto &[k, v] : store) s += k + '=' + std::visit(Printer{}, v) + '\n'; return s; }
  std::string last;
};
const Service::Command Service::commands[4] = {{"get", &Service::get}, {"put", &Service::put}, {"drop", &Service::drop}, {"bump", &Service::bump}};
static std::map<std::string, int> weights = {{"a", 1}, {"b", 2}, {"c", 3}};
std::string drive(const std::vector<std::pair<std::string, std::string>> &steps) {
  Service service; std::string log;
  for (const auto &[name, key] : steps) {
    try { log += status(service.run(name, key)); }
    catch (const std::exception &e) { log += status(classify(e) % 10); }
    catch (...) { log += "?"; throw; }
  }
  std::unique_ptr<Base> both = std::make_unique<Both>();
  auto *r = dynamic_cast<Right *>(both.get());
  std::sort(log.begin(), log.end(), [](char a, char b) { return weights[std::string(1, a)] < weights[std::string(1, b)]; });
  return log + (r ? r->right() : "") + service.dump();
}
