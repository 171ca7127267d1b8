//! Certificates as files: what is wrong with them, in words, and their renewal.

use callboard::__internals::net::{Credentials, LinkConfig, Tls, Trust};
use callboard::error::LinkError;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, date_time_ymd};
use rustls::pki_types::pem::PemObject;

use super::{secret, trust};
use crate::certificates::Authority;
use crate::log;
use crate::peers::Listening;

fn load(tls: Tls) -> String {
    tls.load("node-1").unwrap_err().to_string()
}

#[test]
fn a_file_that_is_of_no_use_is_named_with_what_is_wrong() {
    let authority = Authority::new();
    let good = authority.issue("node-1");
    let key = std::fs::read_to_string(authority.file("node-1.key")).unwrap();
    let crt = std::fs::read_to_string(authority.file("node-1.crt")).unwrap();
    good.clone().load("node-1").unwrap();
    let cut = &key[..key.len() / 2];
    let scrambled = key.replace("KEY-----\nM", "KEY-----\n!");
    let huge = "x".repeat((1 << 20) + 1);
    let large: &str = &huge;
    for (file, text, problem) in [
        ("node-1.crt", "", "it is empty"),
        ("node-1.crt", &key, "it holds no certificate"),
        ("node-1.crt", large, "it is larger than 1 MiB"),
        ("node-1.key", "", "it is empty"),
        ("node-1.key", &crt, "it holds no private key"),
        ("node-1.key", cut, "no end"),
        ("node-1.key", &scrambled, "not base64"),
        (
            "node-1.key",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "the private key is encrypted",
        ),
        ("ca.crt", "nothing", "it holds no certificate"),
    ] {
        let before = std::fs::read_to_string(authority.file(file)).unwrap();
        authority.put(file, text);
        let error = load(good.clone());
        let path = authority.file(file).display().to_string();
        assert!(error.contains(&path), "{error}");
        assert!(error.contains(problem), "{error}");
        assert!(!error.contains(&key[40..60]), "it shows the key: {error}");
        authority.put(file, &before);
    }
    for file in ["node-1.crt", "node-1.key", "ca.crt"] {
        let aside = authority.file("aside");
        std::fs::rename(authority.file(file), &aside).unwrap();
        let error = load(good.clone());
        assert!(
            error.contains(file) && error.contains("cannot be read"),
            "{error}"
        );
        std::fs::create_dir(authority.file(file)).unwrap();
        let error = load(good.clone());
        assert!(
            error.contains(file) && error.contains("not a file"),
            "{error}"
        );
        std::fs::remove_dir(authority.file(file)).unwrap();
        std::fs::rename(aside, authority.file(file)).unwrap();
    }
    good.load("node-1").unwrap();
}

#[test]
fn a_certificate_that_peers_would_refuse_is_refused_at_the_start() {
    let authority = Authority::new();
    authority.issue("other");
    let swapped = Tls::files(
        authority.file("node-1.crt"),
        authority.file("other.key"),
        authority.file("ca.crt"),
    );
    authority.issue("node-1");
    let error = load(swapped);
    assert!(error.contains("other.key"), "{error}");
    assert!(
        error.contains("does not belong to the first certificate of"),
        "{error}"
    );

    let issue = |change: fn(&mut CertificateParams)| load(authority.issue_with("node-1", change));
    let error = issue(|params| params.not_after = date_time_ymd(2020, 1, 1));
    assert!(
        error.contains("node-1.crt") && error.contains("days ago"),
        "{error}"
    );
    let error = issue(|params| params.not_before = date_time_ymd(4000, 1, 1));
    assert!(error.contains("is not valid before"), "{error}");
    let error = issue(|params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    assert!(error.contains("serverAuth and clientAuth"), "{error}");
    let error = authority
        .issue("other")
        .load("node-1")
        .unwrap_err()
        .to_string();
    assert!(error.contains("other.crt"), "{error}");
    assert!(error.contains("does not bear that name"), "{error}");
    assert!(error.contains("\"other\""), "{error}");
}

#[test]
fn a_name_that_no_certificate_bears_is_refused_at_the_start() {
    let authority = Authority::new();
    for name in [
        "with space",
        "under_score",
        "Upper",
        "",
        "-a",
        "a-",
        "a..b",
        "a.",
        "10.0.0.1",
        "ä",
        "*.a.b",
        &"a".repeat(64),
    ] {
        let error = authority.tls("node-1").load(name).unwrap_err().to_string();
        assert!(
            error.contains("cannot stand in a certificate"),
            "{name}: {error}"
        );
        assert!(error.contains("use a DNS name in lower case"), "{error}");
    }
    for name in ["node-1", "1.nodes", "a-b.example.org"] {
        authority.issue(name).load(name).unwrap();
    }
}

#[test]
fn no_key_and_no_secret_is_ever_shown() {
    let authority = Authority::new();
    let tls = authority.issue("node-1");
    let credentials: Credentials = tls.clone().load("node-1").unwrap();
    let trusts = [Trust::Tls(credentials.clone()), secret()];
    let builders = (
        callboard::node("node-1")
            .tls(tls.clone())
            .secret("the secret of this cluster"),
        callboard::Scheduler::builder("node-1")
            .tls(tls.clone())
            .secret("the secret of this cluster"),
    );
    let shown = format!("{credentials:?} {credentials:#?} {tls:?} {trusts:?} {builders:?}");
    assert!(
        shown.contains("node-1.key"),
        "the path may be shown: {shown}"
    );
    assert!(!shown.contains("the secret"), "{shown}");
    let key = std::fs::read_to_string(authority.file("node-1.key")).unwrap();
    for line in key.lines().filter(|line| !line.starts_with('-')) {
        assert!(!shown.contains(&line[..16]), "{shown}");
    }
    let der = rustls::pki_types::PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let numbers = format!("{:?}", &der.secret_der()[..16]);
    assert!(!shown.contains(numbers.trim_matches(['[', ']'])), "{shown}");
}

#[tokio::test]
async fn renewed_files_serve_new_connections_without_a_restart() {
    log::begin();
    let mut authority = Authority::new();
    let node = trust(authority.issue("node-1"), "node-1");
    let scheduler = trust(authority.issue("scheduler"), "scheduler");
    let listening = Listening::start_with(node.clone(), LinkConfig::default()).await;
    listening.serves_to(&scheduler).await;

    // Another authority: whoever uses the old files is a stranger to whoever uses the new ones.
    authority.replace();
    authority.issue("node-1");
    authority.issue("scheduler");
    listening.serves_to(&scheduler).await;
    let fresh = trust(authority.tls("scheduler"), "scheduler");
    listening.serves_to(&fresh).await;

    // A key that is not the certificate's: the files from before serve on, and it is told once.
    let good = std::fs::read_to_string(authority.file("node-1.key")).unwrap();
    let other = std::fs::read_to_string(authority.file("scheduler.key")).unwrap();
    authority.put("node-1.key", &other);
    let file = authority.file("node-1.key").display().to_string();
    for _ in 0..3 {
        listening.serves_to(&fresh).await;
    }
    log::line(&[&file, "cannot be used; the old ones stay in use"]).await;
    assert_eq!(log::lines(&file).len(), 1, "once for each change");
    std::fs::remove_file(authority.file("node-1.key")).unwrap();
    listening.serves_to(&fresh).await;
    log::line(&[&file, "it cannot be read"]).await;
    assert_eq!(log::lines(&file).len(), 2, "once for each change");

    // Mended, and then once more another authority: the new files count again.
    authority.put("node-1.key", &good);
    authority.replace();
    authority.issue("node-1");
    authority.issue("scheduler");
    listening
        .serves_to(&trust(authority.tls("scheduler"), "scheduler"))
        .await;
    assert_eq!(log::lines(&file).len(), 2);
    listening.stop().await;
}

#[tokio::test]
async fn authorities_that_were_taken_away_count_no_more() {
    let mut authority = Authority::new();
    let node = trust(authority.issue("node-1"), "node-1");
    let listening = Listening::start_with(node, LinkConfig::default()).await;
    authority.issue("scheduler");
    // Copies that are not renewed.
    let old = Authority::new();
    for file in ["scheduler.crt", "scheduler.key", "ca.crt"] {
        old.put(
            file,
            &std::fs::read_to_string(authority.file(file)).unwrap(),
        );
    }
    let stale = trust(old.tls("scheduler"), "scheduler");
    listening.serves_to(&stale).await;
    authority.replace();
    authority.issue("node-1");
    let error = listening.dial(&stale).await.unwrap_err();
    assert!(matches!(error.error, LinkError::Tls(_)), "{error}");
    listening.stop().await;
}
