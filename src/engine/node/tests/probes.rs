//! Which port a node names to be probed at, by what it sees of a link.

use super::*;

/// Returns what a node that listens for probes there says on a link whose own end is at `address`.
fn named(probes: &[&str], refusal_means_dead: Option<bool>, address: &str) -> NodeHello {
    let mut bench = Bench::new(NodeSpec {
        probes: probes.iter().map(|&it| it.to_owned()).collect(),
        refusal_means_dead,
        ..spec(2)
    });
    let link = LinkId(1);
    bench.event(NodeEvent::LinkOpened {
        link,
        dialled: None,
        address: address.to_owned(),
    });
    let actions = bench.say(link, hello("a", 1));
    let mut hellos = sent(&actions)
        .into_iter()
        .filter_map(|message| match message {
            ToScheduler::Hello(hello) => Some((**hello).clone()),
            _ => None,
        });
    hellos.next().expect("the node says hello")
}

fn port(probes: &[&str], address: &str) -> Option<String> {
    let hello = named(probes, None, address);
    assert_eq!(hello.address, address);
    hello.probe
}

#[test]
fn g8_a_port_is_named_only_if_it_is_reached_at_the_address_of_the_link() {
    let both = ["0.0.0.0:7", "[::]:8"];
    assert_eq!(port(&both, "10.0.0.2:40000").as_deref(), Some("7"));
    assert_eq!(port(&both, "[fd00::2]:40000").as_deref(), Some("8"));
    // A port of the other family would be refused whether or not this process lives.
    assert_eq!(port(&both[..1], "[::1]:40000"), None);
    assert_eq!(port(&both[1..], "127.0.0.1:40000"), None);
    let one = ["10.0.0.2:7"];
    assert_eq!(port(&one, "10.0.0.2:40000").as_deref(), Some("7"));
    assert_eq!(port(&one, "10.0.0.3:40000"), None);
    assert_eq!(port(&[], "10.0.0.3:40000"), None);
}

#[test]
fn g8_a_node_says_whether_a_refusal_there_means_that_it_is_dead() {
    let probes = ["0.0.0.0:7"];
    let said = |means| {
        let hello = named(&probes, means, "10.0.0.2:40000");
        (hello.probe.is_some(), hello.refusal_means_dead)
    };
    assert_eq!(said(None), (true, false));
    assert_eq!(said(Some(true)), (true, true));
    assert_eq!(said(Some(false)), (false, false));
}
