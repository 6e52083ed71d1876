//! `tidegate ca install` and `uninstall` on whole systems: copies of this machine's tree in private mount namespaces,
//! with the real tools of Debian and Java, and stand-ins for those of the other distributions. Needs root.

use anyhow::{Context as _, Result, ensure};
use std::{fs, path::Path, process::Command, time::Duration};
use tempfile::TempDir;
use test_case::test_case;
use tidegate_tests::{
    process::{Finished, Process},
    programs,
};

const LIMIT: Duration = Duration::from_secs(240);

/// Makes `$tree`, which shows the machine's own files and keeps every change to itself.
const PRELUDE: &str = r#"
set -eu
mount -t tmpfs -o mode=755 none "$scratch"
mkdir "$scratch/upper" "$scratch/work" "$scratch/tree" "$scratch/out"
tree="$scratch/tree"
mount -t overlay overlay -o "lowerdir=/,upperdir=$scratch/upper,workdir=$scratch/work" "$tree"
mount -t proc none "$tree/proc"
mount --rbind /dev "$tree/dev"
out="$scratch/out"
printf '[ca]\ndir = "%s"\n' "$scratch/ca" > "$scratch/tidegate.toml"
ca() { "$tidegate" ca "$@" --root "$tree" --config "$scratch/tidegate.toml"; }
# Every file with its digest, mode and owner, every link with its target.
facts() {
    (cd "$tree" && for place in "$@"; do
        find "$place" -printf '%y %m %u %g %p %l\n' 2> /dev/null || true
        find "$place" -type f -exec sha256sum {} + 2> /dev/null || true
    done | sort)
}
fail() { echo "FAILED: $*" >&2; exit 1; }
"#;

fn on_a_copy(script: &str) -> Result<Finished> {
    ensure!(nix::unistd::geteuid().is_root(), "this test needs root (mount namespaces): run it as root");
    let scratch = TempDir::new()?;
    let path = scratch.path().join("script");
    fs::write(&path, format!("{PRELUDE}{script}"))?;
    let output = TempDir::new()?;
    let mounts = scratch.path().join("mounts");
    fs::create_dir(&mounts)?;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh"]).arg(&path);
    programs::plain_environment(&mut command, Path::new("/root"));
    command.env("scratch", &mounts).env("tidegate", programs::built("tidegate")?);
    Process::run(&mut command, output.path(), LIMIT)
}

fn passes(script: &str) -> Result<()> {
    let finished = on_a_copy(script)?;
    ensure!(finished.status.success(), "{}\n{}", String::from_utf8_lossy(&finished.stdout), finished.stderr);
    Ok(())
}

#[test]
fn debians_own_tool_puts_it_everywhere_and_takes_it_out_again() -> Result<()> {
    let before = fs::read("/etc/ssl/certs/ca-certificates.crt").context("the machine's bundle")?;
    passes(
        r#"
        # What earlier hands have left is made straight, so that only our own traces can show.
        chroot "$tree" update-ca-certificates --fresh > /dev/null 2>&1
        facts etc/ssl usr/local/share/ca-certificates > "$out/before"
        ca install > "$out/told"
        id=$(ca show --json | sed -n 's/.*"id": "\(.*\)",/\1/p')
        file="$tree/usr/local/share/ca-certificates/tidegate-$id.crt"
        [ "$(stat -c %a "$file")" = 644 ] || fail mode
        ca bundle --anchors | cmp - "$file" || fail anchor
        ca show | grep -q "installed    .*/tidegate-$id.crt" || fail show
        chroot "$tree" openssl verify -CApath /etc/ssl/certs "/usr/local/share/ca-certificates/tidegate-$id.crt" || fail hashed
        chroot "$tree" openssl verify -CAfile /etc/ssl/certs/ca-certificates.crt "/usr/local/share/ca-certificates/tidegate-$id.crt" || fail bundle
        facts etc/ssl usr/local/share/ca-certificates > "$out/once"
        ca install > /dev/null
        facts etc/ssl usr/local/share/ca-certificates | grep -v java > "$out/twice"
        grep -v java "$out/once" | cmp - "$out/twice" || fail "a second time changes nothing"
        # The next CA takes the place of the first.
        ca rotate --now | grep -q 'run `tidegate ca install`' || fail hint
        ca install > /dev/null
        [ ! -e "$file" ] || fail "the first is gone"
        [ "$(ls "$tree/usr/local/share/ca-certificates" | grep -c '^tidegate-')" = 1 ] || fail "one is there"
        chroot "$tree" find /etc/ssl/certs -xtype l | grep . && fail "dangling links"
        ca uninstall > /dev/null
        facts etc/ssl usr/local/share/ca-certificates > "$out/after"
        # Java's store is rebuilt with new dates; what is in it is compared below.
        for when in before after; do grep -v java "$out/$when" | grep -v '^d ' > "$out/$when.files"; done
        diff "$out/before.files" "$out/after.files" || fail "as before"
        if [ -e "$tree/etc/ssl/certs/java/cacerts" ]; then
            keytool -list -keystore "$tree/etc/ssl/certs/java/cacerts" -storepass changeit 2> /dev/null | grep -q tidegate && fail java
        fi
        ca uninstall > /dev/null || fail "nothing to uninstall is no failure"
        "#,
    )?;
    ensure!(
        fs::read("/etc/ssl/certs/ca-certificates.crt")? == before,
        "the machine's own bundle was changed"
    );
    Ok(())
}

#[test_case("etc/pki/ca-trust/source/anchors", "usr/bin/update-ca-trust", "extract"; "fedora")]
#[test_case("etc/ca-certificates/trust-source/anchors", "usr/bin/update-ca-trust", ""; "arch")]
#[test_case("etc/pki/trust/anchors", "usr/sbin/update-ca-certificates", ""; "suse")]
#[test_case("usr/local/share/ca-certificates", "usr/sbin/update-ca-certificates", ""; "alpine")]
fn the_others_tools_are_called_with_what_they_need(anchors: &str, tool: &str, argument: &str) -> Result<()> {
    passes(&format!(
        r#"
        anchors="{anchors}" tool="{tool}" argument="{argument}"
        mkdir -p "$tree/$anchors"
        rm -f "$tree/$tool"
        # What these tools come down to: one bundle of all anchors.
        printf '#!/bin/sh\necho "called with: $*" >> /called\ncat /%s/* > /made 2> /dev/null || : > /made\n' "$anchors" > "$tree/$tool"
        chmod 755 "$tree/$tool"
        echo 'a certificate of the company' > "$tree/$anchors/company.pem"
        chroot "$tree" "/$tool" $argument && rm "$tree/called"
        facts "$anchors" made | grep -v '^d ' > "$out/before"
        ca install > "$out/told"
        grep -q "ran chroot $tree /$tool" "$out/told" || fail "$(cat "$out/told")"
        [ "$(cat "$tree/called")" = "called with: $argument" ] || fail "$(cat "$tree/called")"
        ca bundle --anchors > "$out/anchors"
        grep -q "$(sed -n 2p "$out/anchors")" "$tree/made" || fail "made from the anchor"
        ca uninstall > /dev/null
        facts "$anchors" made | grep -v '^d ' | diff "$out/before" - || fail "as before"
        printf '#!/bin/sh\necho "no space left" >&2\nexit 4\n' > "$tree/$tool"
        if ca install 2> "$out/error"; then fail "a tool that fails"; else [ $? = 1 ] || fail status; fi
        grep -q "failed (exit status: 4): no space left" "$out/error" || fail "$(cat "$out/error")"
        "#
    ))
}

#[test]
fn each_jdk_of_its_own_trusts_it_and_gets_its_bytes_back() -> Result<()> {
    passes(
        r#"
        jdk="$tree/opt/jdk"; store="$jdk/lib/security/cacerts"
        mkdir -p "$jdk/lib/security" "$jdk/bin"
        rm -f "$store"
        keytool -genkeypair -alias company -keyalg EC -dname CN=company -keystore "$out/p12" -storepass changeit 2> /dev/null
        keytool -exportcert -rfc -alias company -keystore "$out/p12" -storepass changeit > "$out/company.pem" 2> /dev/null
        keytool -importcert -noprompt -alias company -file "$out/company.pem" -keystore "$store" -storepass changeit 2> /dev/null
        chmod 640 "$store"
        has() { keytool -list -alias "$1" -keystore "$store" -storepass changeit > /dev/null 2>&1; }
        cp "$store" "$out/before"
        ca install > "$out/told"
        id=$(ca show --json | sed -n 's/.*"id": "\(.*\)",/\1/p')
        grep -q "imported tidegate-$id into $store" "$out/told" || fail "$(cat "$out/told")"
        has "tidegate-$id" && has company || fail "both are in it"
        [ "$(stat -c %a "$store")" = 640 ] || fail mode
        ca install | grep -q imported && fail "a second time"
        ca uninstall > "$out/told"
        cmp "$store" "$out/before" || fail "its own bytes"
        [ "$(ls "$jdk/lib/security")" = cacerts ] || fail "left: $(ls "$jdk/lib/security")"

        # Somebody else imports meanwhile: that stays.
        ca install > /dev/null
        keytool -importcert -noprompt -alias other -file "$out/company.pem" -keystore "$store" -storepass changeit 2> /dev/null
        ca uninstall > /dev/null
        has other || fail "the other's import"
        has "tidegate-$id" && fail "ours is out"
        [ "$(ls "$jdk/lib/security")" = cacerts ] || fail "left: $(ls "$jdk/lib/security")"
        "#,
    )
}
