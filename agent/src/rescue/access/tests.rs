use std::time::Duration;

use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::ssh_key::public::SkEd25519;
use russh::keys::{PrivateKey, PublicKey};

use super::*;
use crate::rescue::authorized_keys;

const NOW: u64 = 1_800_000_000;

fn private(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

fn visit() -> Visit {
    Visit { source: [192, 0, 2, 7].into(), now: SystemTime::UNIX_EPOCH + Duration::from_secs(NOW) }
}

fn access(options: &str, key: &PrivateKey) -> Access {
    let line = format!("{options} {}", key.public_key().to_openssh().unwrap());
    let (keys, errors) = authorized_keys::parse(line.trim());
    assert_eq!(errors, []);
    Access { keys, revoked: vec![] }
}

fn everything() -> Permissions {
    Permissions { pty: Switch::On, forwarding: Switch::On, permit_open: vec![], command: None }
}

fn builder() -> Builder {
    let public = private(2).public_key().key_data().clone();
    let mut builder = Builder::new(vec![1; 16], public, NOW - 10, NOW + 10).unwrap();
    builder.key_id("operator").unwrap();
    builder
}

fn signed(build: impl FnOnce(&mut Builder)) -> Certificate {
    let mut builder = builder();
    build(&mut builder);
    builder.sign(&private(1)).unwrap()
}

#[test]
fn a_key_is_judged_by_its_line() {
    let ours = private(1);
    let table = [
        ("", Ok(everything())),
        ("no-pty", Ok(Permissions { pty: Switch::Off, ..everything() })),
        ("from=\"192.0.2.0/24\"", Ok(everything())),
        ("from=\"198.51.100.0/24\"", Err(Refusal::Source)),
        ("expiry-time=20200101", Err(Refusal::Expired)),
        ("cert-authority", Err(Refusal::Unknown)),
    ];
    for (options, expected) in table {
        let access = access(options, &ours);
        let key = ours.public_key().key_data();
        assert_eq!(access.key(key, &Algorithm::Ed25519, visit()), expected, "{options}");
    }
}

#[test]
fn a_key_that_no_line_names_is_refused_and_so_is_a_revoked_one() {
    let (ours, other) = (private(1), private(3));
    let mut access = access("", &ours);
    let verdict = |access: &Access, key: &PrivateKey| {
        access.key(key.public_key().key_data(), &Algorithm::Ed25519, visit())
    };
    assert_eq!(verdict(&access, &other), Err(Refusal::Unknown));
    access.revoked.push(ours.public_key().key_data().clone());
    assert_eq!(verdict(&access, &ours), Err(Refusal::Revoked));
}

#[test]
fn the_first_line_that_admits_a_key_decides() {
    let ours = private(1);
    let mut both = access("from=\"198.51.100.1\"", &ours);
    both.keys.extend(access("no-pty", &ours).keys);
    let expected = Ok(Permissions { pty: Switch::Off, ..everything() });
    assert_eq!(both.key(ours.public_key().key_data(), &Algorithm::Ed25519, visit()), expected);
}

#[test]
fn a_sha1_signature_is_refused_whether_the_key_comes_in_a_certificate_or_not() {
    let ours = private(1);
    let sha1 = Algorithm::Rsa { hash: None };
    for options in ["", "cert-authority"] {
        let access = access(options, &ours);
        let key = ours.public_key().key_data();
        assert_eq!(access.key(key, &sha1, visit()), Err(Refusal::Sha1));
        assert_eq!(access.offer(key, &sha1, visit()), Err(Refusal::Sha1), "{options}");
    }
}

#[test]
fn where_there_is_an_authority_any_strong_key_may_be_proved() {
    let (ours, other) = (private(1), private(3));
    let offer = |options| {
        access(options, &ours).offer(other.public_key().key_data(), &Algorithm::Ed25519, visit())
    };
    assert_eq!(offer(""), Err(Refusal::Unknown));
    assert_eq!(offer("cert-authority"), Ok(()));
}

fn security_key() -> KeyData {
    let public = *private(2).public_key().key_data().ed25519().unwrap();
    KeyData::SkEd25519(SkEd25519::new(public, "ssh:"))
}

#[test]
fn a_security_key_is_good_only_where_its_touch_does_not_matter() {
    let line = |options: &str| {
        let key = PublicKey::from(security_key()).to_openssh().unwrap();
        let (keys, errors) = authorized_keys::parse(format!("{options} {key}").trim());
        assert_eq!(errors, []);
        Access { keys, revoked: vec![] }
    };
    let verdict =
        |options| line(options).key(&security_key(), &Algorithm::SkEd25519, visit()).map(drop);
    assert_eq!(verdict(""), Err(Refusal::Touch));
    assert_eq!(verdict("no-touch-required"), Ok(()));
    assert_eq!(verdict("no-touch-required,touch-required"), Err(Refusal::Touch));
}

#[test]
fn a_certified_security_key_needs_its_authority_and_the_certificate_to_waive_the_touch() {
    let verdict = |options: &str, extensions: &[&str]| {
        let mut builder = Builder::new(vec![1; 16], security_key(), NOW - 10, NOW + 10).unwrap();
        builder.valid_principal("root").unwrap();
        for extension in extensions {
            builder.extension(*extension, "").unwrap();
        }
        let certificate = builder.sign(&private(1)).unwrap();
        access(options, &private(1)).certificate(&certificate, visit()).map(drop)
    };
    let waived = ["no-touch-required"];
    assert_eq!(verdict("cert-authority", &[]), Err(Refusal::Touch));
    assert_eq!(verdict("cert-authority", &waived), Err(Refusal::Touch));
    assert_eq!(verdict("cert-authority,no-touch-required", &[]), Err(Refusal::Touch));
    assert_eq!(verdict("cert-authority,no-touch-required", &waived), Ok(()));
}

#[test]
fn a_certificate_allows_what_it_and_its_authority_allow() {
    let nothing = Permissions { pty: Switch::Off, forwarding: Switch::Off, ..everything() };
    type Build = fn(&mut Builder) -> &mut Builder;
    let root: Build = |b| b.valid_principal("root").unwrap();
    let table: [(&str, Build, Result<Permissions, Refusal>); 12] = [
        ("cert-authority", root, Ok(nothing.clone())),
        (
            "cert-authority",
            |b| b.valid_principal("root").unwrap().extension("permit-pty", "").unwrap(),
            Ok(Permissions { pty: Switch::On, ..nothing.clone() }),
        ),
        (
            "cert-authority,no-pty",
            |b| b.valid_principal("root").unwrap().extension("permit-pty", "").unwrap(),
            Ok(nothing.clone()),
        ),
        (
            "cert-authority",
            |b| b.valid_principal("root").unwrap().critical_option("force-command", "id").unwrap(),
            Ok(Permissions { command: Some("id".into()), ..nothing.clone() }),
        ),
        (
            "cert-authority,command=\"uptime\"",
            |b| b.valid_principal("root").unwrap().critical_option("force-command", "id").unwrap(),
            Err(Refusal::TwoCommands),
        ),
        (
            "cert-authority",
            |b| {
                b.valid_principal("root")
                    .unwrap()
                    .critical_option("source-address", "10.0.0.0/8")
                    .unwrap()
            },
            Err(Refusal::Source),
        ),
        (
            "cert-authority",
            |b| b.valid_principal("root").unwrap().critical_option("verify-required", "").unwrap(),
            Err(Refusal::CriticalOption("verify-required".into())),
        ),
        ("cert-authority", |b| b.valid_principal("alice").unwrap(), Err(Refusal::Principal)),
        ("cert-authority", |b| b.all_principals_valid().unwrap(), Err(Refusal::Principal)),
        (
            "cert-authority,principals=\"ops\"",
            |b| b.valid_principal("ops").unwrap(),
            Ok(nothing.clone()),
        ),
        ("cert-authority,principals=\"ops\"", root, Err(Refusal::Principal)),
        ("", root, Err(Refusal::UnknownAuthority)),
    ];
    for (row, (options, build, expected)) in table.into_iter().enumerate() {
        let certificate = signed(|builder| {
            build(builder);
        });
        let verdict = access(options, &private(1)).certificate(&certificate, visit());
        assert_eq!(verdict, expected, "row {row}: {options}");
    }
}

#[test]
fn a_certificate_is_good_only_in_its_time() {
    let certificate = signed(|builder| {
        builder.valid_principal("root").unwrap();
    });
    let access = access("cert-authority", &private(1));
    let at =
        |seconds| Visit { now: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds), ..visit() };
    let verdict = |seconds| access.certificate(&certificate, at(seconds)).map(|_| ());
    assert_eq!(verdict(NOW - 11), Err(Refusal::NotYetValid));
    assert_eq!(verdict(NOW - 10), Ok(()));
    assert_eq!(verdict(NOW + 9), Ok(()));
    assert_eq!(verdict(NOW + 10), Err(Refusal::Expired));
}

#[test]
fn a_host_certificate_and_those_of_revoked_keys_are_refused() {
    let host = signed(|builder| {
        builder.cert_type(CertType::Host).unwrap().valid_principal("root").unwrap();
    });
    let user = signed(|builder| {
        builder.valid_principal("root").unwrap();
    });
    let mut access = access("cert-authority", &private(1));
    assert_eq!(access.certificate(&host, visit()), Err(Refusal::NotForUsers));
    for revoked in [private(1), private(2)] {
        access.revoked = vec![revoked.public_key().key_data().clone()];
        assert_eq!(access.certificate(&user, visit()), Err(Refusal::Revoked));
    }
}
