//! A scheduler with one honest node and hostile ones, which say anything in any order.
//!
//! Owns: what must hold of a scheduler's machine, and of its honest node's tasks, whatever the others say.
//! Does not know: what the others meant by it.

mod stage;
mod words;

use super::input::Input;
use stage::Stage;

/// More steps find nothing that fewer do not, and cost time.
const MAX_STEPS: usize = 300;

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut stage = Stage::new(&mut input);
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            break;
        }
        stage.step(&mut input);
        stage.settle();
    }
    stage.finish();
}
