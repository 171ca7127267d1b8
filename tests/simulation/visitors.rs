//! Schedulers of other names that dial a node and go again, and by which it forgets its own.
//!
//! Owns: what a visitor says, and when it goes. Does not know: what the node's own scheduler finds
//! then.

use std::time::Duration;

use callboard::__internals::engine::message::{
    SchedulerHello, ToNode, ToScheduler, VERSION_MAX, VERSION_MIN, Welcome,
};
use callboard::__internals::engine::node::{MAX_SCHEDULERS, NodeEvent};
use callboard::__internals::engine::{LinkId, SchedulerId};
use callboard::config::SchedulerConfig;

use crate::brief;
use crate::cluster::{Cluster, Ev};
use crate::nodes::NodeIn;
use crate::plan::Time;

/// Links of visitors are numbered from here on: no network carries them.
const FIRST_LINK: u64 = 1 << 40;

/// A visitor's link, and how long it stays once the node has answered.
#[derive(Clone, Copy, Debug)]
pub struct Visit {
    proc: usize,
    link: LinkId,
    stays: Time,
}

/// Returns whether a link is a visitor's.
pub fn is_visitors(link: LinkId) -> bool {
    link.0 >= FIRST_LINK
}

impl Cluster {
    /// Lets so many schedulers come, each under a name of its own, that there is no seat left for
    /// one that is away.
    pub fn crowd(&mut self, proc: usize) {
        for number in 0..MAX_SCHEDULERS {
            self.visit(proc, &format!("one of many, {number}"), 0);
        }
    }

    /// Lets a visitor say hello to a process under this name.
    pub fn visit(&mut self, proc: usize, name: &str, stays: Time) {
        let number = FIRST_LINK + self.visits.len() as u64;
        let link = LinkId(number);
        self.visits.push(Visit { proc, link, stays });
        let opened = NodeEvent::LinkOpened {
            link,
            dialled: None,
            address: String::new(),
        };
        self.tell_node(proc, NodeIn::Event(opened));
        let hello = SchedulerHello {
            version_min: VERSION_MIN,
            version_max: VERSION_MAX,
            scheduler: name.to_owned(),
            scheduler_id: SchedulerId(number),
            term: 0,
            max_frame: None,
        };
        self.visitor_says(proc, link, ToNode::Hello(Box::new(hello)));
    }

    fn visitor_says(&mut self, proc: usize, link: LinkId, message: ToNode) {
        self.tell_node(proc, NodeIn::Event(NodeEvent::Message { link, message }));
    }

    /// Takes in what a node says to a visitor.
    pub fn visitor_hears(&mut self, link: LinkId, message: &ToScheduler) {
        self.say(|| format!("visitor {link} hears {}", brief::to_scheduler(message)));
        if !matches!(message, ToScheduler::Hello(_)) {
            return;
        }
        let visit = self.visits[usize::try_from(link.0 - FIRST_LINK).unwrap()];
        self.after(visit.stays, Ev::VisitorGoes(visit));
        // One that stays for no time goes without a welcome.
        if visit.stays > 0 {
            self.after(1, Ev::VisitorWelcomes(visit));
        }
    }

    pub fn visitor_welcomes(&mut self, visit: Visit) {
        let config = SchedulerConfig::default();
        let welcome = Welcome {
            version: VERSION_MAX,
            heartbeat: config.heartbeat,
            lease: config.lease,
            outlive: Duration::ZERO,
            workers: None,
            retry: config.retry,
            acknowledged: 0,
            stop: Vec::new(),
            drain: false,
        };
        self.visitor_says(visit.proc, visit.link, ToNode::Welcome(Box::new(welcome)));
    }

    pub fn visitor_goes(&mut self, Visit { proc, link, .. }: Visit) {
        let reason = "the visitor has gone".to_owned();
        let closed = NodeEvent::LinkClosed { link, reason };
        self.tell_node(proc, NodeIn::Event(closed));
    }
}
