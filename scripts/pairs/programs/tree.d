// Classes and interfaces, templates, delegates, string switches, associative arrays, ranges and exceptions.
module tree;
import std.algorithm, std.array, std.conv, std.format, std.range, std.stdio, std.string;

interface Visitor { void leaf(int value); void node(char op, Expr left, Expr right); }
abstract class Expr { abstract void accept(Visitor v); abstract int eval() const; }
final class Leaf : Expr {
    int value;
    this(int v) { value = v; }
    override void accept(Visitor v) { v.leaf(value); }
    override int eval() const { return value; }
}
final class Node : Expr {
    char op; Expr left, right;
    this(char o, Expr l, Expr r) { op = o; left = l; right = r; }
    override void accept(Visitor v) { v.node(op, left, right); }
    override int eval() const {
        immutable a = left.eval, b = right.eval;
        switch (op) {
            case '+': return a + b;
            case '-': return a - b;
            case '*': return a * b;
            case '/': if (b == 0) throw new Exception("division by zero"); return a / b;
            case '%': return a % b;
            case '&': return a & b;
            case '|': return a | b;
            case '^': return a ^ b;
            default: assert(0, "operator");
        }
    }
}
class Printer : Visitor {
    string text;
    void leaf(int value) { text ~= value.to!string; }
    void node(char op, Expr l, Expr r) { text ~= '('; l.accept(this); text ~= op; r.accept(this); text ~= ')'; }
}
string keyword(string word) {
    switch (word) {
        case "let": return "binding";
        case "in": return "scope";
        case "if": case "then": case "else": return "condition";
        case "fun": return "function";
        case "match": return "pattern";
        default: return format("identifier %s", word);
    }
}
struct Point(T) { T x, y; Point opBinary(string op)(Point o) const { return mixin("Point(x" ~ op ~ "o.x, y" ~ op ~ "o.y)"); } }
immutable int function(int)[4] steps = [n => n + 1, n => n * 2, n => n - 3, n => n / 2];

void main(string[] args) {
    Expr e = new Node('+', new Leaf(1), new Node('*', new Leaf(2), new Leaf(3)));
    auto p = new Printer;
    e.accept(p);
    writeln(p.text, " = ", e.eval);
    int[string] counts;
    foreach (word; args.map!(a => a.toLower)) counts[word]++;
    foreach (word; counts.keys.sort) writefln("%-10s %5d %s", word, counts[word], keyword(word));
    auto q = Point!double(1, 2) + Point!double(3, 4);
    try { writeln(new Node('/', e, new Leaf(0)).eval); } catch (Exception x) { stderr.writeln(x.msg); }
    writeln(q.x, iota(10).map!(n => steps[n % 4](n)).filter!(n => n & 1).array);
}
