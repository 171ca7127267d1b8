//! What the tests of the actors and of the handlers share.

pub(crate) mod lone_node;
