# Ref objects with methods, case statements, tables, closures, string handling and exceptions.
import std/[tables, strutils, algorithm, sequtils]

type
  Kind = enum kNumber, kString, kList, kCall, kIf, kLet, kNil
  Node = ref object
    case kind: Kind
    of kNumber: number: float
    of kString: text: string
    of kList, kCall: items: seq[Node]
    of kIf, kLet: parts: array[3, Node]
    of kNil: discard
  Base = ref object of RootObj
    name: string
  Counter = ref object of Base
    total: int

method show(b: Base): string {.base.} = b.name
method show(c: Counter): string = c.name & ":" & $c.total

proc parse(tokens: seq[string], at: var int): Node =
  if at >= tokens.len: raise newException(ValueError, "unexpected end")
  let token = tokens[at]
  inc at
  case token
  of "(":
    result = Node(kind: kList)
    while at < tokens.len and tokens[at] != ")": result.items.add parse(tokens, at)
    inc at
  of "nil": result = Node(kind: kNil)
  else:
    try: result = Node(kind: kNumber, number: parseFloat(token))
    except ValueError: result = Node(kind: kString, text: token)

proc render(n: Node): string =
  case n.kind
  of kNumber: $n.number
  of kString: n.text.escape
  of kList, kCall: "(" & n.items.mapIt(it.render).join(" ") & ")"
  of kIf: "if"
  of kLet: "let"
  of kNil: "nil"

var words = initTable[string, proc (a, b: float): float]()
words["+"] = proc (a, b: float): float = a + b
words["-"] = proc (a, b: float): float = a - b
words["*"] = proc (a, b: float): float = a * b

when isMainModule:
  var at = 0
  let tree = parse("( + 1 ( * 2 3 ) nil )".splitWhitespace, at)
  echo tree.render
  let all: seq[Base] = @[Base(name: "a"), Counter(name: "b", total: 3)]
  for b in all.sortedByIt(it.name): echo b.show
  echo words["*"](2, 21)
