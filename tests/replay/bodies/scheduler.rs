//! A scheduler with one honest node and hostile ones, which say anything in any order.
//!
//! Owns: what must hold of a scheduler's machine, and of its honest node's tasks, whatever the
//! others say. Does not know: what the others meant by it.

mod stage;
mod words;

use super::input::Input;
use super::steps;
use stage::Stage;

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut stage = Stage::new(&mut input);
    steps(&mut input, |input| {
        stage.step(input);
        stage.settle();
    });
    stage.finish();
}
