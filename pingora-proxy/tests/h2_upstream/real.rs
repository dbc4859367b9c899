//! curl in front, and nginx behind with HTTP/2.

use super::common::curl::*;
use super::common::h2_origin::*;
use super::common::Nginx;
use std::fs;

#[test]
fn curl_gets_and_puts_files_of_all_sizes() {
    let nginx = Nginx::start_with("http2");
    let proxy = h2_proxy(&nginx.path());
    let local = nginx.folder().join("local");
    for size in [0, 1, 1000, 65_536, 20 << 20] {
        let content = letters(size);
        fs::write(nginx.file("file"), &content).unwrap();
        for version in ["--http1.1", "--http1.0"] {
            let got = curl(&proxy, &[version, "http://a/file"]);
            assert!(got == content, "{size} over {version}: {} came", got.len());
        }
        if size == 0 {
            // curl forgets the last chunk of nothing at all.
            continue;
        }
        fs::write(&local, &content).unwrap();
        for (name, framing) in [
            ("length", "X-None: 1"),
            ("chunked", "Transfer-Encoding: chunked"),
        ] {
            let url = format!("http://a/{name}-{size}");
            // Over HTTP/2 nginx leaves an expectation without an answer, for which curl waits a second.
            let args = ["-H", framing, "-H", "Expect:", "-o", "/dev/null", "-w"];
            let args = [&args[..], &["%{http_code}", "-T", text(&local), &url]].concat();
            assert_eq!(curl(&proxy, &args), b"201", "{url}");
            assert!(fs::read(nginx.file(&format!("{name}-{size}"))).unwrap() == content);
        }
    }
}

#[test]
fn curl_sees_heads_ranges_and_redirects_as_nginx_sent_them() {
    let nginx = Nginx::start_with("http2");
    fs::write(nginx.file("file"), "0123456789").unwrap();
    let proxy = h2_proxy(&nginx.path());
    let head = String::from_utf8(curl(&proxy, &["-I", "http://a/file"])).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let head = head.to_ascii_lowercase();
    assert!(head.contains("content-length: 10\r\n"), "{head}");
    assert_eq!(curl(&proxy, &["-r", "2-4", "http://a/file"]), b"234");
    let args = [
        "-o",
        "/dev/null",
        "-w",
        "%{http_code} %{redirect_url}",
        "http://a/moved",
    ];
    assert_eq!(curl(&proxy, &args), b"301 http://a/elsewhere");
    let args = ["-o", "/dev/null", "-w", "%{http_code}", "http://a/nothing"];
    assert_eq!(curl(&proxy, &args), b"404");
}
