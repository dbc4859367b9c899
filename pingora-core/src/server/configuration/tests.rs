use super::*;

/// The text of the error that a document is refused with.
fn refused(yaml: &str) -> String {
    let error = ServerConf::from_yaml(yaml).expect_err(yaml);
    assert_eq!(error.etype(), &ReadError, "{yaml}");
    error.to_string()
}

fn accepted(yaml: &str) -> ServerConf {
    ServerConf::from_yaml(yaml).unwrap_or_else(|e| panic!("{yaml}: {e}"))
}

#[test]
fn every_field_has_a_rule_and_every_rule_a_field() {
    let yaml = ServerConf::default().to_yaml();
    let Ok(Some(yaml::Node::Mapping(document))) = yaml::parse(&yaml) else {
        panic!("{yaml}");
    };
    let fields = serde_json::to_value(ServerConf::default()).unwrap();
    assert_eq!(fields.as_object().unwrap().len(), document.len());
    let written = document.iter().map(|(key, _)| key.as_str());
    assert!(written.eq(keys::names()), "{yaml}");
}

#[test]
fn defaults() {
    assert_eq!(ServerConf::default().version, 0);
    let conf = ServerConf::new().unwrap();
    assert_eq!(conf.version, 1);
    assert_eq!(
        conf,
        ServerConf {
            version: 1,
            ..Default::default()
        }
    );
    assert_eq!(accepted(""), ServerConf::default());
    assert_eq!(accepted("--- {}"), ServerConf::default());
}

#[test]
fn what_is_written_reads_back() {
    let conf = ServerConf {
        user: Some("1000".into()),
        working_directory: Some("/srv/a b".into()),
        client_bind_to_ipv4: vec!["127.0.0.2".into()],
        client_bind_to_ipv6: vec!["::1".into()],
        fast_timeout_to_tokio_threshold_seconds: None,
        runtime_metrics_poll_time_histogram_scale: Some(RuntimeMetricsPollTimeHistogramScale::Log),
        daemon_ready_timeout_seconds: NonZeroU64::new(7),
        shutdown_policy: ShutdownPolicy::Strict,
        shutdown_drain_seconds: Some(3),
        accept_strategy: AcceptStrategy::Mutex,
        accept_mutex_delay_ms: 20,
        worker_connections: Some(1000),
        ..Default::default()
    };
    assert_eq!(accepted(&conf.to_yaml()), conf);
}

#[test]
fn keys_that_are_not_named_have_the_given_defaults() {
    let defaults = ServerConf {
        threads: 8,
        user: Some("nobody".into()),
        ..Default::default()
    };
    let read = |yaml| ServerConf::from_yaml_with_defaults(yaml, &defaults).unwrap();
    assert_eq!(read(""), defaults);
    let named = read("threads: 1\nuser: null");
    assert_eq!(named, ServerConf::default());
}

#[test]
fn whole_numbers() {
    for key in [
        "version",
        "listener_tasks_per_fd",
        "upstream_keepalive_pool_size",
        "max_retries",
        "shutdown_read_timeout_seconds",
    ] {
        accepted(&format!("{key}: 0"));
        accepted(&format!("{key}: 12"));
        for bad in ["\"many\"", "-1", "1.5", "true", "null", "[]"] {
            let text = refused(&format!("{key}: {bad}"));
            let expected = format!("{key}: {bad}: expected a whole number of at least 0");
            assert!(text.contains(&expected), "{text}");
        }
    }
}

#[test]
fn whole_numbers_or_null() {
    for (key, least) in [
        ("grace_period_seconds", 0),
        ("graceful_shutdown_timeout_seconds", 0),
        ("upgrade_sock_connect_accept_max_retries", 0),
        ("max_blocking_threads", 1),
        ("blocking_threads_ttl_seconds", 0),
        ("fast_timeout_to_tokio_threshold_seconds", 0),
        ("runtime_metrics_poll_time_histogram_resolution_micros", 1),
        ("daemon_ready_timeout_seconds", 1),
        ("daemon_notify_timeout_seconds", 1),
        ("shutdown_drain_seconds", 0),
        ("worker_connections", 1),
    ] {
        accepted(&format!("{key}: null"));
        accepted(&format!("{key}: {least}"));
        for bad in [(least - 1).to_string(), "\"1\"".into()] {
            let text = refused(&format!("{key}: {bad}"));
            let expected = format!("a whole number of at least {least}, or null");
            assert!(text.contains(key) && text.contains(&expected), "{text}");
        }
    }
    for (key, or_null) in [
        ("threads", ""),
        ("upstream_connect_offload_threadpools", ", or null"),
        ("upstream_connect_offload_thread_per_pool", ", or null"),
        ("downstream_tls_offload_threadpools", ", or null"),
        ("downstream_tls_offload_thread_per_pool", ", or null"),
    ] {
        accepted(&format!("{key}: 0"));
        accepted(&format!("{key}: 65535"));
        for bad in ["-1", "65536", "100000", "\"many\"", "1.5", "[]"] {
            let text = refused(&format!("{key}: {bad}"));
            let expected =
                format!("{key}: {bad}: expected a whole number from 0 to 65535{or_null}");
            assert!(text.contains(&expected), "{text}");
        }
    }
    let key = "runtime_metrics_poll_time_histogram_buckets";
    accepted(&format!("{key}: 1024"));
    for bad in [0, 1025] {
        let text = refused(&format!("{key}: {bad}"));
        let expected = format!("{key}: {bad}: expected a whole number from 1 to 1024, or null");
        assert!(text.contains(&expected), "{text}");
    }
}

#[test]
fn yes_and_no() {
    for key in [
        "daemon",
        "work_stealing",
        "runtime_enable_alt_timer",
        "upstream_debug_ssl_keylog",
        "runtime_metrics_poll_time_histogram",
        "daemon_wait_for_ready",
    ] {
        accepted(&format!("{key}: true"));
        for bad in ["1", "\"yes\"", "null"] {
            let text = refused(&format!("{key}: {bad}"));
            assert!(
                text.contains(&format!("{key}: {bad}: expected true or false")),
                "{text}"
            );
        }
    }
}

#[test]
fn texts() {
    for key in ["pid_file", "upgrade_sock"] {
        for bad in ["\"\"", "null", "true", "[a]", "\"a\\0b\""] {
            let text = refused(&format!("{key}: {bad}"));
            assert!(
                text.contains(key) && text.contains("expected text that is not empty"),
                "{text}"
            );
        }
    }
    for key in ["error_log", "user", "group", "working_directory", "ca_file"] {
        accepted(&format!("{key}: null"));
        accepted(&format!("{key}: some/thing"));
        for bad in ["\"\"", "false", "{a: 1}"] {
            let text = refused(&format!("{key}: {bad}"));
            assert!(
                text.contains(key) && text.contains("not empty, or null"),
                "{text}"
            );
        }
    }
    assert_eq!(accepted("user: 1000").user.as_deref(), Some("1000"));
}

#[test]
fn addresses_to_connect_from() {
    let conf = accepted("client_bind_to_ipv4: [127.0.0.1]\nclient_bind_to_ipv6: ['::1']");
    assert_eq!(conf.client_bind_to_ipv4, ["127.0.0.1"]);
    assert_eq!(conf.client_bind_to_ipv6, ["::1"]);
    for bad in ["127.0.0.1", "[\"::1\"]", "[1]", "[\"127.0.0.1:80\"]"] {
        let text = refused(&format!("client_bind_to_ipv4: {bad}"));
        assert!(
            text.contains("client_bind_to_ipv4") && text.contains("a list of IPv4"),
            "{text}"
        );
    }
    assert!(refused("client_bind_to_ipv6: [127.0.0.1]").contains("a list of IPv6 addresses"));
}

#[test]
fn words() {
    assert_eq!(
        accepted("shutdown_policy: strict").shutdown_policy,
        ShutdownPolicy::Strict
    );
    assert_eq!(
        accepted("shutdown_policy: finish").shutdown_policy,
        ShutdownPolicy::Finish
    );
    let text = refused("shutdown_policy: quick");
    assert!(
        text.contains("shutdown_policy: \"quick\": expected finish or strict"),
        "{text}"
    );
    assert_eq!(
        accepted("accept_strategy: reuseport").accept_strategy,
        AcceptStrategy::Reuseport
    );
    let text = refused("accept_strategy: best");
    let expected = "accept_strategy: \"best\": expected shared or exclusive or reuseport or mutex";
    assert!(text.contains(expected), "{text}");
    let text = refused("accept_mutex_delay_ms: 0");
    let expected = "accept_mutex_delay_ms: 0: expected a whole number of at least 1";
    assert!(text.contains(expected), "{text}");
    let key = "runtime_metrics_poll_time_histogram_scale";
    accepted(&format!("{key}: linear"));
    accepted(&format!("{key}: null"));
    let text = refused(&format!("{key}: Log"));
    assert!(
        text.contains(&format!("{key}: \"Log\": expected linear or log, or null")),
        "{text}"
    );
}

#[test]
fn documents_that_are_no_settings() {
    assert!(refused("- a\n- b").contains("[\"a\", \"b\"]: expected a mapping"));
    assert!(refused("threads: [").contains("no valid YAML"));
    assert!(refused("threads: 1\nthreads: 2").contains("threads"));
    let huge = refused("threads: 99999999999999999999");
    assert!(huge.contains("threads: 9999"), "{huge}");
    let long = refused(&format!("threads: {}", "x".repeat(5000)));
    assert!(long.len() < 400, "{long}");
}

#[test]
fn unknown_keys_pass_and_near_misses_are_told() {
    assert_eq!(accepted("my_setting: {a: [1]}\n5: x\nthread: 3").threads, 1);
    assert_eq!(keys::likely_meant("thread"), Some("threads"));
    assert_eq!(keys::likely_meant("work_stealling"), Some("work_stealing"));
    assert_eq!(
        keys::likely_meant("grace_period_second"),
        Some("grace_period_seconds")
    );
    assert_eq!(keys::likely_meant("my_setting"), None);
    assert_eq!(keys::likely_meant("use"), None);
    assert_eq!(keys::likely_meant(""), None);
}

#[test]
fn validate_names_the_key() {
    let bad = |conf: ServerConf| conf.validate().unwrap_err().to_string();
    let text = bad(ServerConf {
        max_blocking_threads: Some(0),
        ..Default::default()
    });
    assert!(text.contains("max_blocking_threads: 0"), "{text}");
    let text = bad(ServerConf {
        runtime_metrics_poll_time_histogram_buckets: Some(1025),
        ..Default::default()
    });
    assert!(text.contains("from 1 to 1024"), "{text}");
    assert!(ServerConf::default().validate().is_ok());
}

#[test]
fn offload_needs_both_numbers() {
    let conf = |p, t| ServerConf {
        upstream_connect_offload_threadpools: p,
        upstream_connect_offload_thread_per_pool: t,
        ..Default::default()
    };
    let pair = |p, t| conf(p, t).upstream_connect_offload_threadpool();
    assert_eq!(pair(Some(2), Some(3)), Some((2, 3)));
    assert_eq!(pair(Some(2), None), None);
    assert_eq!(pair(Some(2), Some(0)), None);
}

#[test]
fn command_line() {
    let opt = Opt::parse_from_args(["proxy", "-u", "-d", "-t", "-c", "a.yaml", "--nocapture"]);
    assert!(opt.upgrade && opt.daemon && opt.test && opt.nocapture);
    assert_eq!(opt.conf.as_deref(), Some("a.yaml"));
    let opt = Opt::parse_from_args(["proxy", "--upgrade", "--daemon", "--test", "--conf=b"]);
    assert!(opt.upgrade && opt.daemon && opt.test);
    let opt = Opt::parse_from_args(["proxy"]);
    assert!(!opt.upgrade && !opt.daemon && !opt.test && opt.conf.is_none());
    assert!(Opt::try_parse_from(["proxy", "--nonsense"]).is_err());
    let help = <Opt as clap::CommandFactory>::command()
        .render_help()
        .to_string();
    assert!(!help.contains("nocapture"), "{help}");
}

#[test]
fn the_command_line_overrides_the_file() {
    let daemon = Opt {
        daemon: true,
        ..Default::default()
    };
    assert!(ServerConf::new_with_opt_override(&daemon).unwrap().daemon);
    let error = ServerConf::load_yaml_with_opt_override(&daemon).unwrap_err();
    assert_eq!(error.etype(), &ReadError);
    let missing = Opt {
        conf: Some("/nonexistent/settings.yaml".into()),
        ..Default::default()
    };
    let error = ServerConf::load_yaml_with_opt_override(&missing).unwrap_err();
    assert_eq!(error.etype(), &ReadError);
    assert!(
        error.to_string().contains("/nonexistent/settings.yaml"),
        "{error}"
    );
}

#[test]
fn what_runtimes_are_told() {
    let opts = accepted(
        "{runtime_enable_alt_timer: true, runtime_metrics_poll_time_histogram: true, \
         runtime_metrics_poll_time_histogram_scale: log, \
         runtime_metrics_poll_time_histogram_resolution_micros: 7, \
         runtime_metrics_poll_time_histogram_buckets: 9}",
    )
    .runtime_opts();
    assert!(opts.enable_alt_timer);
    let metrics = opts.metrics;
    assert!(metrics.poll_time_histogram);
    assert_eq!(metrics.poll_time_histogram_buckets, Some(9));
    let width = metrics.poll_time_histogram_resolution;
    assert_eq!(width, Some(Duration::from_micros(7)));
    let scale = metrics.poll_time_histogram_scale;
    assert_eq!(scale, Some(RuntimeMetricsPollTimeHistogramScale::Log));
    let none = ServerConf::default().runtime_opts();
    assert!(!none.enable_alt_timer && !none.metrics.poll_time_histogram);
}

#[test]
fn what_endpoints_are_told() {
    let told = accepted(
        "{accept_strategy: mutex, accept_mutex_delay_ms: 7, worker_connections: 9, \
         shutdown_read_timeout_seconds: 3, shutdown_drain_seconds: 2}",
    )
    .accepting();
    assert_eq!(told.strategy, AcceptStrategy::Mutex);
    assert_eq!(told.mutex_delay, Duration::from_millis(7));
    assert_eq!(told.worker_connections, Some(9));
    assert_eq!(told.shutdown_timeout, Duration::from_secs(3));
    assert_eq!(told.keep_idle, Some(Duration::from_secs(2)));
}

#[test]
fn entries_are_told_as_they_are_written() {
    let entries = ServerConf::entries("threads: 3\nmy_own: off\nlist: [1]\nthread: 3\n");
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        entries,
        [
            ("threads".to_owned(), text("3")),
            ("my_own".to_owned(), text("off")),
            ("list".to_owned(), None),
            ("thread".to_owned(), text("3")),
        ]
    );
    let unknown = ServerConf::unknown_keys("threads: 3\nmy_own: off\nthread: 3\n");
    assert_eq!(
        unknown,
        [
            ("my_own".to_owned(), None),
            ("thread".to_owned(), Some("threads"))
        ]
    );
    assert!(ServerConf::entries("- 1\n").is_empty());
    let keys: Vec<_> = ServerConf::entries(&ServerConf::default().to_yaml());
    assert!(keys
        .iter()
        .map(|(key, _)| key.as_str())
        .eq(ServerConf::keys()));
}
