// The smallest useful Go program: no fmt, so that little but the runtime is linked.
package main

type shape interface{ area() int }
type square struct{ side int }
type oblong struct{ width, height int }

func (s square) area() int { return s.side * s.side }
func (o oblong) area() int { return o.width * o.height }

var shapes = []shape{square{3}, oblong{2, 5}}
var names = map[string]func(int) int{"double": func(n int) int { return 2 * n }}

func main() {
	sum := 0
	for _, s := range shapes {
		sum += s.area()
	}
	println(names["double"](sum))
}
