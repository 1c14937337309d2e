//! Trait objects, enum matches that become jump tables, static tables of functions and strings, formatting,
//! collections, closures and panics.
use std::collections::{BTreeMap, HashMap};
use std::fmt;

pub trait Shape {
    fn area(&self) -> f64;
    fn name(&self) -> &'static str;
}
pub struct Circle(pub f64);
pub struct Rect(pub f64, pub f64);
impl Shape for Circle {
    fn area(&self) -> f64 { self.0 * self.0 * std::f64::consts::PI }
    fn name(&self) -> &'static str { "circle" }
}
impl Shape for Rect {
    fn area(&self) -> f64 { self.0 * self.1 }
    fn name(&self) -> &'static str { "rect" }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Op { Push(i64), Add, Sub, Mul, Div, Rem, Neg, Dup, Swap, Drop, Jump(usize), Call(String), Halt }

#[derive(Debug)]
pub enum Fault { Underflow(usize), Unknown(String), Zero }
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Underflow(at) => write!(f, "stack underflow at {at:#06x}"),
            Fault::Unknown(word) => write!(f, "unknown word {word:?}"),
            Fault::Zero => f.write_str("division by zero"),
        }
    }
}

type Builtin = fn(&mut Vec<i64>) -> Result<(), Fault>;
fn square(stack: &mut Vec<i64>) -> Result<(), Fault> {
    let top = stack.last_mut().ok_or(Fault::Underflow(0))?;
    *top *= *top;
    Ok(())
}
fn sum(stack: &mut Vec<i64>) -> Result<(), Fault> {
    let total = stack.drain(..).sum();
    stack.push(total);
    Ok(())
}
pub static BUILTINS: [(&str, Builtin); 2] = [("square", square), ("sum", sum)];

pub fn run(program: &[Op]) -> Result<Vec<i64>, Fault> {
    let mut stack: Vec<i64> = Vec::new();
    let mut at = 0;
    while let Some(op) = program.get(at) {
        at += 1;
        let mut pop = || stack.pop().ok_or(Fault::Underflow(at));
        match op {
            Op::Push(value) => stack.push(*value),
            Op::Add => { let (b, a) = (pop()?, pop()?); stack.push(a.wrapping_add(b)) }
            Op::Sub => { let (b, a) = (pop()?, pop()?); stack.push(a.wrapping_sub(b)) }
            Op::Mul => { let (b, a) = (pop()?, pop()?); stack.push(a.wrapping_mul(b)) }
            Op::Div => { let (b, a) = (pop()?, pop()?); stack.push(a.checked_div(b).ok_or(Fault::Zero)?) }
            Op::Rem => { let (b, a) = (pop()?, pop()?); stack.push(a.checked_rem(b).ok_or(Fault::Zero)?) }
            Op::Neg => { let a = pop()?; stack.push(-a) }
            Op::Dup => { let a = pop()?; stack.extend([a, a]) }
            Op::Swap => { let (b, a) = (pop()?, pop()?); stack.extend([b, a]) }
            Op::Drop => { pop()?; }
            Op::Jump(target) => at = *target,
            Op::Call(word) => {
                let builtin = BUILTINS.iter().find(|b| b.0 == word).ok_or_else(|| Fault::Unknown(word.clone()))?;
                (builtin.1)(&mut stack)?
            }
            Op::Halt => break,
        }
    }
    Ok(stack)
}

pub fn parse(text: &str) -> Vec<Op> {
    text.split_whitespace()
        .map(|word| match word {
            "+" => Op::Add, "-" => Op::Sub, "*" => Op::Mul, "/" => Op::Div, "%" => Op::Rem,
            "neg" => Op::Neg, "dup" => Op::Dup, "swap" => Op::Swap, "drop" => Op::Drop, "halt" => Op::Halt,
            _ => word.parse().map(Op::Push).unwrap_or_else(|_| Op::Call(word.to_owned())),
        })
        .collect()
}

pub fn weekday(day: u32) -> &'static str {
    match day % 7 { 0 => "Sunday", 1 => "Monday", 2 => "Tuesday", 3 => "Wednesday", 4 => "Thursday", 5 => "Friday", _ => "Saturday" }
}

pub fn count<'a>(words: &'a [&'a str]) -> BTreeMap<&'a str, usize> {
    let mut table: HashMap<&str, usize> = HashMap::new();
    for word in words { *table.entry(word).or_insert(0) += 1; }
    table.into_iter().collect()
}

pub fn describe(shapes: &[Box<dyn Shape>]) -> String {
    let mut lines: Vec<String> = shapes.iter().map(|s| format!("{:>8}: {:10.3}", s.name(), s.area())).collect();
    lines.sort_by(|a, b| b.cmp(a));
    lines.join("\n")
}

pub fn main() {
    let shapes: Vec<Box<dyn Shape>> = vec![Box::new(Circle(1.5)), Box::new(Rect(2.0, 3.0))];
    println!("{}", describe(&shapes));
    for argument in std::env::args().skip(1) {
        match run(&parse(&argument)) {
            Ok(stack) => println!("{stack:?} {}", weekday(stack.len() as u32)),
            Err(fault) => eprintln!("{fault}"),
        }
    }
    println!("{:?}", count(&["a", "b", "a"]));
    let result = std::panic::catch_unwind(|| run(&[Op::Neg]).unwrap());
    assert!(result.is_err(), "must have failed");
}
