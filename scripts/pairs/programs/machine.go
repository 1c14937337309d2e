// A small stack machine: interfaces, maps, closures, a dense switch and a panic that is recovered.
package main

import (
	"fmt"
	"os"
	"sort"
	"strings"
)

type op interface{ run(m *machine) error }
type push struct{ value int64 }
type call struct{ name string }
type machine struct {
	stack []int64
	words map[string]func(*machine) error
}

func (p push) run(m *machine) error { m.stack = append(m.stack, p.value); return nil }
func (c call) run(m *machine) error {
	word, ok := m.words[c.name]
	if !ok {
		return fmt.Errorf("unknown word %q", c.name)
	}
	return word(m)
}

func (m *machine) pop() int64 {
	if len(m.stack) == 0 {
		panic("stack underflow")
	}
	top := m.stack[len(m.stack)-1]
	m.stack = m.stack[:len(m.stack)-1]
	return top
}

func arithmetic(code byte, a, b int64) int64 {
	switch code {
	case '+':
		return a + b
	case '-':
		return a - b
	case '*':
		return a * b
	case '/':
		return a / b
	case '%':
		return a % b
	case '&':
		return a & b
	case '|':
		return a | b
	case '^':
		return a ^ b
	case '<':
		return a << uint(b&63)
	case '>':
		return a >> uint(b&63)
	}
	return 0
}

func newMachine() *machine {
	m := &machine{words: map[string]func(*machine) error{}}
	for _, code := range "+-*/%&|^<>" {
		code := byte(code)
		m.words[string(code)] = func(m *machine) error {
			b, a := m.pop(), m.pop()
			m.stack = append(m.stack, arithmetic(code, a, b))
			return nil
		}
	}
	return m
}

func (m *machine) eval(text string) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("recovered: %v", r)
		}
	}()
	for _, field := range strings.Fields(text) {
		var value int64
		var next op = call{field}
		if _, failed := fmt.Sscan(field, &value); failed == nil {
			next = push{value}
		}
		if err := next.run(m); err != nil {
			return err
		}
	}
	return nil
}

func main() {
	m := newMachine()
	for _, line := range os.Args[1:] {
		if err := m.eval(line); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	sort.Slice(m.stack, func(i, j int) bool { return m.stack[i] < m.stack[j] })
	fmt.Println(m.stack)
}
