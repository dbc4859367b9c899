//! Between programs that people use: curl in front, nginx behind.

use super::common::curl::*;
use super::common::*;

#[test]
fn curl_gets_files_of_all_sizes_from_nginx() {
    let nginx = Nginx::start();
    let proxy = nginx.proxy();
    for size in [0, 1, 1000, 65_536, 3 << 20] {
        let content = letters(size);
        std::fs::write(nginx.file("file"), &content).unwrap();
        for version in ["--http1.1", "--http1.0"] {
            let got = curl(&proxy, &[version, "http://a/file"]);
            assert!(
                got == content,
                "{size} bytes over {version}: {} came",
                got.len()
            );
        }
    }
}

#[test]
fn curl_puts_files_to_nginx_with_and_without_a_length() {
    let nginx = Nginx::start();
    let proxy = nginx.proxy();
    let local = nginx.folder().join("local");
    // From a size on curl asks first, by Expect: 100-continue.
    // Nothing at all it cannot send in chunks: it forgets the last one.
    for size in [1, 1000, 3 << 20] {
        let content = letters(size);
        std::fs::write(&local, &content).unwrap();
        for (name, framing) in [
            ("length", "X-None: 1"),
            ("chunked", "Transfer-Encoding: chunked"),
        ] {
            let url = format!("http://a/{name}-{size}");
            let args = [
                "-H",
                framing,
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
                "-T",
                text(&local),
            ];
            assert_eq!(
                curl(&proxy, &[&args[..], &[&url]].concat()),
                b"201",
                "{url}"
            );
            assert!(std::fs::read(nginx.file(&format!("{name}-{size}"))).unwrap() == content);
        }
    }
}

#[test]
fn curl_uses_one_connection_for_several_requests() {
    let nginx = Nginx::start();
    std::fs::write(nginx.file("file"), "hello ").unwrap();
    let proxy = nginx.proxy();
    let url = "http://a/file";
    let said = curl(&proxy, &["-w", "%{num_connects} ", url, url, url]);
    assert_eq!(said, b"hello 1 hello 0 hello 0 ");
}

#[test]
fn curl_sees_heads_ranges_and_redirects_as_nginx_sent_them() {
    let nginx = Nginx::start();
    std::fs::write(nginx.file("file"), "0123456789").unwrap();
    let proxy = nginx.proxy();
    let head = String::from_utf8(curl(&proxy, &["-I", "http://a/file"])).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(
        head.to_ascii_lowercase().contains("content-length: 10\r\n"),
        "{head}"
    );
    assert_eq!(curl(&proxy, &["-r", "2-4", "http://a/file"]), b"234");
    let args = [
        "-o",
        "/dev/null",
        "-w",
        "%{http_code} %{redirect_url}",
        "http://a/moved",
    ];
    assert_eq!(curl(&proxy, &args), b"301 http://a/elsewhere");
}

#[test]
fn curl_decodes_what_nginx_compressed() {
    let nginx = Nginx::start();
    let content = letters(200_000);
    std::fs::write(nginx.file("file.txt"), &content).unwrap();
    let proxy = nginx.proxy();
    let plain = curl(&proxy, &["http://a/file.txt"]);
    let coded = curl(
        &proxy,
        &["-H", "Accept-Encoding: gzip", "http://a/file.txt"],
    );
    let decoded = curl(&proxy, &["--compressed", "http://a/file.txt"]);
    assert!(plain == content && decoded == content);
    assert_eq!(coded[..2], [0x1f, 0x8b], "gzip begins so");
}
