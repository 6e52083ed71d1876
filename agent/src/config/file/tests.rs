use super::*;
use crate::config::{BroughtCa, Ca, CgroupPattern, Kubernetes, LeafKey, Limits, Match, RunBy, Workload};
use test_case::test_case;

fn parse_text(text: &str) -> Result<Config, String> {
    let source = Source::from_bytes(Path::new("t.toml"), text.as_bytes().to_vec()).unwrap();
    parse(&source).map_err(|error| error.to_string())
}

#[test]
fn an_empty_file_is_the_default() {
    assert_eq!(parse_text(""), Ok(Config::default()));
}

#[test]
fn every_key_reaches_the_configuration() {
    let text = r#"
        policy_dir = "/p"
        hosts = ["API.digitalocean.com."]
        [[workload]]
        name = "gitlab-runner"
        policy = "ci-builder"
        match = [{ slice = "ci-jobs.slice", exe = "/usr/bin/runner" }, { cgroup = "/ci.slice/**", user = "ci" }]
        except = [{ user = "root" }]
        run_by = ["alice", "group:ci"]
        [[workload]]
        name = "bots"
        policy = "read-only"
        match = [{ user = "1000" }]
        [capture]
        cgroup_root = "/c"
        mode = "targeted"
        sticky_tags = false
        tls_ports = [443]
        plain_ports = []
        no_sni = "deny"
        ech = "pass"
        foreign_sni = "deny-at-edge"
        passthrough_hosts = ["registry.digitalocean.com"]
        edge_prefixes = ["10.0.0.0/8", "fd00::/8"]
        forward_proxies = ["http://Proxy.example:3128", "10.0.0.1:8080"]
        peek_timeout = "500ms"
        [upstream]
        ca_file = "/f.pem"
        proxy = "http://Proxy.example:3128"
        proxy_credentials = "/secret"
        connect_timeout = "1s"
        response_timeout = "2m"
        [audit]
        path = "-"
        on_failure = "refuse-all"
        sync = true
        journald = true
        [ca]
        dir = "/ca"
        certificate = "/chain.pem"
        key = "/key.pem"
        overlap = "2d"
        leaf_key = "rsa"
        [kubernetes]
        directory = "/k"
        spared_namespaces = ["a", "b"]
        [limits]
        connections = 1
        handshakes = 2
        head_timeout = "3s"
        body_idle_timeout = "4s"
        body_inspect = 2097152
        [health]
        listen = "127.0.0.1:9090"
    "#;
    let cgroup = |text| Some(CgroupPattern::parse(text).unwrap());
    let matching = |cgroup, user: Option<&str>, exe: Option<&str>| Match {
        cgroup,
        user: user.map(str::to_owned),
        exe: exe.map(Into::into),
        ..Match::default()
    };
    let runner = Workload {
        name: "gitlab-runner".to_owned(),
        policy: "ci-builder".to_owned(),
        matches: vec![
            matching(cgroup("/ci.slice/ci-jobs.slice"), None, Some("/usr/bin/runner")),
            matching(cgroup("/ci.slice/**"), Some("ci"), None),
        ],
        except: vec![matching(None, Some("root"), None)],
        run_by: vec![RunBy::User("alice".into()), RunBy::Group("ci".into())],
    };
    let bots = Workload {
        name: "bots".to_owned(),
        policy: "read-only".to_owned(),
        matches: vec![matching(None, Some("1000"), None)],
        except: vec![],
        run_by: vec![],
    };
    let config = parse_text(text).unwrap();
    assert_eq!(config.policy_dir, Path::new("/p"));
    assert_eq!(config.hosts, Config::default().hosts);
    assert_eq!(config.workloads, [runner, bots]);
    assert_eq!(config.health.listen, Some("127.0.0.1:9090".parse().unwrap()));
    let expected = Capture {
        mode: Mode::Targeted,
        sticky_tags: false,
        cgroup_root: Some("/c".into()),
        tls_ports: vec![443],
        plain_ports: vec![],
        no_sni: Treatment::Deny,
        ech: Treatment::Pass,
        foreign_sni: Treatment::DenyAtEdge,
        passthrough_hosts: vec![HostName::parse("registry.digitalocean.com").unwrap()],
        edge_prefixes: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
        forward_proxies: ForwardProxies::Listed(vec![
            ForwardProxy::parse("proxy.example:3128").unwrap(),
            ForwardProxy::parse("10.0.0.1:8080").unwrap(),
        ]),
        peek_timeout: Duration::from_millis(500),
    };
    assert_eq!(config.capture, expected);
    assert_eq!(config.upstream.ca_file.as_deref(), Some(Path::new("/f.pem")));
    let proxy = config.upstream.proxy.map(|proxy| proxy.to_string());
    assert_eq!(proxy.as_deref(), Some("proxy.example:3128"));
    assert_eq!(config.upstream.proxy_credentials.as_deref(), Some(Path::new("/secret")));
    assert_eq!(config.upstream.connect_timeout, Duration::from_secs(1));
    assert_eq!(config.upstream.response_timeout, Duration::from_secs(120));
    assert_eq!(config.audit.path, Path::new("-"));
    assert_eq!(config.audit.on_failure, OnAuditFailure::RefuseAll);
    assert!(config.audit.sync);
    let brought = BroughtCa { certificate: "/chain.pem".into(), key: Some("/key.pem".into()) };
    let expected = Ca {
        ephemeral: false,
        dir: "/ca".into(),
        brought: Some(brought),
        overlap: Duration::from_hours(48),
        leaf_key: LeafKey::Rsa,
    };
    assert_eq!(config.ca, expected);
    let expected = Limits {
        connections: 1,
        handshakes: 2,
        head_timeout: Duration::from_secs(3),
        body_idle_timeout: Duration::from_secs(4),
        body_inspect: 1 << 21,
    };
    assert_eq!(config.limits, expected);
    let spared_namespaces = vec!["a".to_owned(), "b".to_owned()];
    let expected = Kubernetes { watch: false, directory: "/k".into(), spared_namespaces };
    assert_eq!(config.kubernetes, expected);
}

#[test_case("hots = []", "1: unknown key `hots`"; "unknown key")]
#[test_case("[capture]\nsni = \"deny\"", "2: unknown key `sni`"; "unknown key in a table")]
#[test_case("[kubernetes]\nspared_namespaces = [\"\"]", "2: an empty name in `spared_namespaces`"; "an empty namespace")]
#[test_case("hosts = []", "1: `hosts = []` would protect nothing"; "no hosts")]
#[test_case("hosts = [\"127.0.0.1\"]", "1: `127.0.0.1` is not a DNS host name"; "address as a host")]
#[test_case("hosts = [\"a.example\",\n\"A.example\"]", "2: `a.example` is named twice"; "host twice")]
#[test_case("hosts = [\"a.example.com\",\n\"b.example.org\"]", "2: `b.example.org` lies in another domain"; "two domains")]
#[test_case("policy_dir = \"policies\"", "1: `policies` is not an absolute path"; "relative path")]
#[test_case("[audit]\npath = \"log\"", "2: `log` is not an absolute path"; "relative log")]
#[test_case("[health]\nlisten = \"localhost:1\"", "2: `localhost:1` is not an address with a port"; "health at a name")]
#[test_case("[capture]\nmode = \"loose\"", "2: unknown variant `loose`"; "unknown mode")]
#[test_case("[capture]\ntls_ports = [443, 0]", "2: port 0 in `tls_ports`"; "port 0")]
#[test_case("[capture]\ntls_ports = [70000]", "2: invalid value: integer `70000`"; "port too high")]
#[test_case("[capture]\ntls_ports = []", "2: `tls_ports` without 443 would leave the API open"; "no ports")]
#[test_case("[capture]\ntls_ports = [8443]", "2: `tls_ports` without 443 would leave the API open"; "no 443")]
#[test_case("[capture]\nedge_prefixes = []", "2: `edge_prefixes = []` would let hidden names pass"; "no edge")]
#[test_case("[capture]\ntls_ports = [443, 80]", "2: port 80 stands in both"; "port in both lists")]
#[test_case("[capture]\npassthrough_hosts = [\"api.digitalocean.com\"]", "2: `api.digitalocean.com` is protected by `hosts`"; "protected and passed")]
#[test_case("[capture]\nedge_prefixes = [\"10.0.0.1/8\"]", "2: `10.0.0.1/8` has bits beyond its prefix; did you mean `10.0.0.0/8`?"; "host bits")]
#[test_case("[capture]\nedge_prefixes = [\"edge\"]", "2: `edge` is not an address range"; "no range")]
#[test_case("[capture]\nforward_proxies = [\"https://proxy.example:3128\"]", "2: `https://proxy.example:3128` is reached over TLS"; "a proxy over tls")]
#[test_case("[capture]\nforward_proxies = [\"proxy.example\"]", "2: `proxy.example` is not a forward proxy"; "a proxy without a port")]
#[test_case("[capture]\nforward_proxies = [\"http://me:secret@proxy.example:1\"]", "2: a forward proxy is named without user and password"; "a proxy with a password")]
#[test_case("[capture]\npeek_timeout = \"3\"", "2: `3` is not a duration"; "no unit")]
#[test_case("[capture]\necho = \"pass\"", "2: unknown key `echo`"; "misspelt")]
#[test_case("[capture]\nech = \"allow\"", "2: unknown variant `allow`"; "unknown treatment")]
#[test_case("[ca]\nephemeral = true\ndir = \"/x\"", "3: `dir` has no meaning with `ephemeral = true`"; "contradiction")]
#[test_case("[ca]\nephemeral = true\ncertificate = \"/x\"", "3: `certificate` has no meaning with"; "a kept CA that is not kept")]
#[test_case("[ca]\nkey = \"/x\"", "2: `key` without `certificate`"; "a key alone")]
#[test_case("[ca]\noverlap = \"90d\"", "2: `90d` is no overlap"; "long overlap")]
#[test_case("[ca]\nleaf_key = \"dsa\"", "2: unknown variant `dsa`"; "unknown kind of key")]
#[test_case("[upstream]\nproxy = \"http://me:secret@p.example:1\"", "2: `proxy` is named without user and password"; "password of the proxy")]
#[test_case("[upstream]\nproxy = \"https://p.example:1\"", "2: `https://p.example:1` is reached over TLS"; "upstream proxy over tls")]
#[test_case("[upstream]\nproxy_credentials = \"/x\"", "2: `proxy_credentials` without `proxy`"; "credentials alone")]
#[test_case("[limits]\nconnections = 0", "2: `connections = 0` is out of range"; "no connections")]
#[test_case("[limits]\nconnections = -1", "2: invalid value: integer `-1`"; "negative")]
#[test_case("[audit]\nqueue = 5", "2: unknown key `queue`"; "a key of a later version")]
#[test_case("[[workload]]\nname = \"a\"", "1: missing key `policy`"; "workload without policy")]
fn what_is_wrong_is_told_with_its_line(text: &str, expected: &str) {
    let error = parse_text(text).unwrap_err();
    assert!(error.starts_with(&format!("t.toml:{expected}")), "{error}");
}

#[test_case("name = \"a b\"", "cannot name a workload"; "blank in a name")]
#[test_case("name = \"a\"\nmatch = []", "`match = []` matches nothing"; "empty match")]
#[test_case("name = \"a\"\nmatch = [{}]", "an empty table matches nothing"; "empty table")]
#[test_case("name = \"a\"\nmatch = [{ exe = \"/bin/x\" }]", "`exe` alone is no identity"; "exe alone")]
#[test_case("name = \"a\"\nexcept = [{ exe = \"/bin/x\" }]", "`exe` alone is no identity"; "exe alone as an exception")]
#[test_case("name = \"a\"\nexcept = [{ user = \"ci\", exe = \"/bin/x\" }]", "would let go whoever runs that file"; "exe in an exception")]
#[test_case("name = \"a\"\nmatch = [{ any = true, exe = \"/bin/x\" }]", "`any` stands alone"; "any with exe")]
#[test_case("name = \"a\"\nmatch = [{ any = false }]", "`any = false` matches nothing"; "any false")]
#[test_case("name = \"a\"\nmatch = [{ unit = \"\" }]", "`unit` is empty"; "empty word")]
#[test_case("name = \"a\"\nmatch = [{ pod = {} }]", "`pod` names nothing"; "empty pod")]
#[test_case("name = \"a\"\nmatch = [{ pod = { labels = {} } }]", "`pod` names nothing"; "empty labels")]
#[test_case("name = \"a\"\nmatch = [{ cgroup = \"ci.slice\" }]", "must begin with `/`"; "relative cgroup")]
#[test_case("name = \"a\"\nmatch = [{ cgroup = \"/\" }]", "`/` is every process of the machine"; "root cgroup")]
#[test_case("name = \"a\"\nmatch = [{ cgroup = \"/a**\" }]", "`**` within a name"; "bad glob")]
#[test_case("name = \"a\"\nmatch = [{ slice = \"ci\" }]", "`ci` is not a slice's name"; "no slice")]
#[test_case("name = \"a\"\nmatch = [{ slice = \"ci.slice\", cgroup = \"/x\" }]", "both name cgroups"; "slice and cgroup")]
#[test_case("name = \"a\"\nmatch = [{ unit = \"x\" }]", "write its whole name, such as `x.service`"; "half a unit")]
#[test_case("name = \"a\"\nmatch = [{ unit = \"x.service\", user_unit = \"x.service\" }]", "`unit` and `user_unit` both name cgroups"; "two units")]
#[test_case("name = \"a\"\nexcept = [{ any = true }]", "`any` in `except` leaves nobody"; "nobody")]
#[test_case("name = \"a\"\nmatch = [{ user = \"x\" }]\n[[workload]]\npolicy = \"q\"\nname = \"b\"\nmatch = [{ cgroup = \"/b\" }, { user = \"x\" }]", "`a` and `b` match the same"; "twice the same")]
#[test_case("name = \"a\"\nmatch = [{ comm = \"x\" }]", "unknown key `comm`"; "name that a program chooses")]
#[test_case("name = \"a\"\nrun_by = []", "`run_by = []` lets nobody"; "run by nobody")]
#[test_case("name = \"a\"\nrun_by = [\"unit:x.service\"]", "`unit:x.service` names nobody"; "run by a unit")]
fn workloads_that_could_match_too_much_are_refused(keys: &str, expected: &str) {
    let error = parse_text(&format!("[[workload]]\npolicy = \"p\"\n{keys}")).unwrap_err();
    assert!(error.contains(expected), "{error}");
}

#[test_case("../p"; "path")]
#[test_case("p.toml"; "file name")]
#[test_case(""; "empty")]
fn a_policy_is_named_without_a_path(policy: &str) {
    let error = parse_text(&format!("[[workload]]\nname = \"a\"\npolicy = \"{policy}\"")).unwrap_err();
    assert!(error.contains("is not a policy's name"), "{error}");
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_file() {
    let text = "hosts = []\n[capture]\npeek_timeout = \"x\"\n[limits]\nhandshakes = 0";
    let error = parse_text(text).unwrap_err();
    let lines: Vec<&str> = error.lines().filter_map(|line| line.split(':').nth(1)).collect();
    assert_eq!(lines, ["1", "3", "5"]);
}

#[cfg(feature = "kubernetes")]
#[test]
fn pods_and_containers_are_told_by_their_own_keys() {
    let workload =
        |matching: &str| format!("[[workload]]\nname = \"a\"\npolicy = \"p\"\nmatch = [{matching}]");
    let table = "{ pod = { namespace = \"ci-*\", labels = { app = \"x\" }, service_account = \"s\", name = \"n\" }, \
        container = { name = \"c\", image = \"i\", labels = { l = \"v\" } } }";
    let config = parse_text(&workload(table)).unwrap();
    let [Workload { matches, .. }] = config.workloads.as_slice() else { panic!("{config:?}") };
    let label = |key: &str, value: &str| Some([(key.to_owned(), value.to_owned())].into());
    let expected = Match {
        pod: Some(crate::config::PodPattern {
            namespace: Some("ci-*".into()),
            name: Some("n".into()),
            labels: label("app", "x"),
            service_account: Some("s".into()),
        }),
        container: Some(crate::config::ContainerPattern {
            name: Some("c".into()),
            image: Some("i".into()),
            labels: label("l", "v"),
        }),
        ..Match::default()
    };
    assert_eq!(matches.as_slice(), [expected]);
    let error = parse_text(&workload("{ pod = { name = \"x\" }, slice = \"y.slice\" }")).unwrap_err();
    assert!(error.contains("`slice` and `pod` both name cgroups"), "{error}");
    let error = parse_text(&workload("{ pod = { nmae = \"x\" } }")).unwrap_err();
    assert!(error.contains("unknown"), "{error}");
}

#[cfg(not(feature = "kubernetes"))]
#[test]
fn pods_need_the_build_that_follows_them() {
    let text = "[[workload]]\nname = \"a\"\npolicy = \"p\"\nmatch = [{ pod = { name = \"x\" } }]";
    let error = parse_text(text).unwrap_err();
    assert!(error.contains("`pod` is not supported by this build"), "{error}");
}
