//! Clients that mean harm, or are broken: one answer, and nothing held.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::{Served, picture};
use serde_json::json;

/// What the server answers to bytes, until it closes the connection.
fn talk(server: &Served, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn head(path: &str, content_type: &str, length: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {content_type}\r\n{length}\r\n\r\n"
    )
}

fn server(folder: &tempfile::TempDir) -> Served {
    Served::start(folder.path(), |config| {
        config.limits.idle_seconds = 1;
        config.limits.body_bytes = 200_000;
        config.limits.uploads = 2;
        config.limits.connections = 8;
    })
}

#[test]
fn clients_that_stall_are_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(&folder);
    let started = Instant::now();
    let text = head("/v1/predict", "application/json", "content-length: 100000");
    let half = talk(&server, format!("{text}{{\"image\": ").as_bytes());
    assert!(half.starts_with("HTTP/1.1 408"), "{half}");
    assert!(half.contains("problem+json"), "{half}");
    // Both places for uploads are free again, and several that stall at once do not keep others out for long.
    let stalled: Vec<TcpStream> = (0..4)
        .map(|_| {
            let mut stream = TcpStream::connect(server.address).unwrap();
            let text = head("/v1/images", "image/png", "content-length: 150000");
            stream.write_all(text.as_bytes()).unwrap();
            stream
        })
        .collect();
    server.upload(&picture(0));
    drop(stalled);
    assert!(started.elapsed() < Duration::from_secs(15));
}

#[test]
fn a_byte_now_and_then_is_not_enough() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(&folder);
    let text = head("/v1/images", "image/png", "content-length: 150000");
    let slow: Vec<_> = (0..2)
        .map(|_| {
            let mut stream = TcpStream::connect(server.address).unwrap();
            stream.write_all(text.as_bytes()).unwrap();
            std::thread::spawn(move || {
                let started = Instant::now();
                while stream.write_all(b"x").is_ok() && started.elapsed() < Duration::from_secs(20)
                {
                    std::thread::sleep(Duration::from_millis(200));
                }
                started.elapsed()
            })
        })
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    // Both places are taken: others wait for a short time, and are told so.
    let large = vec![0; 100_000];
    let answer = server.send("/v1/images", "image/png", &large);
    assert!([422, 429].contains(&answer.status), "{answer:?}");
    for slow in slow {
        assert!(
            slow.join().unwrap() < Duration::from_secs(10),
            "a slow client is not given up"
        );
    }
    assert_eq!(server.send("/v1/images", "image/png", &large).status, 422);
}

#[test]
fn a_small_request_asks_for_little() {
    let folder = tempfile::tempdir().unwrap();
    let server = Served::start(folder.path(), |_| {});
    let id = server.upload(&picture(0));
    let ask = |prompts: serde_json::Value| {
        server.post(
            "/v1/predict",
            &json!({"image": {"id": id}, "prompts": prompts}),
        )
    };
    // Millions of prompts are given up while they are read.
    let millions = format!(
        r#"{{"image": {{"id": "{id}"}}, "prompts": [{}{{}}]}}"#,
        "{},".repeat(8_000_000)
    );
    let before = memory();
    let millions = server.send("/v1/predict", "application/json", millions.as_bytes());
    assert_eq!(
        (millions.status, millions.json()["field"].as_str()),
        (422, Some("prompts")),
        "{millions:?}"
    );
    assert!(
        memory() < before + 1000,
        "{before} MB, then {} MB",
        memory()
    );
    let points = ask(json!([{"points": vec![[5, 5]; 513]}]));
    assert_eq!(
        (points.status, points.json()["field"].as_str()),
        (422, Some("prompts")),
        "{points:?}"
    );
    let large = json!({"rle": {"size": [10_000, 10_000], "counts": [0, 100_000_000]}});
    let large = ask(json!([{"mask": large, "single": true}]));
    assert_eq!(
        (large.status, large.json()["field"].as_str()),
        (422, Some("prompts[0].mask.rle.size")),
        "{large:?}"
    );
    let mask = json!({"rle": {"size": [120, 160], "counts": [4000, 3000, 12_200]}});
    ask(json!(vec![json!({"mask": mask, "single": true}); 64])).good();
    let empty = ask(json!([{"mask": {"rle": {"size": [120, 160], "counts": [19_200]}}}]));
    assert_eq!(
        (empty.status, empty.json()["field"].as_str()),
        (422, Some("prompts[0].mask")),
        "{empty:?}"
    );
}

/// Megabytes of this process, which is the server's.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse::<u64>()
        .unwrap()
        / 1024
}

#[test]
fn bodies_of_all_requests_share_a_memory() {
    let folder = tempfile::tempdir().unwrap();
    let server = Served::start(folder.path(), |config| {
        config.limits.idle_seconds = 1;
        config.limits.body_bytes = 400_000;
        config.limits.bodies_memory = 400_000;
    });
    // It is reserved before the body comes, and free again when its client has gone.
    let mut held = TcpStream::connect(server.address).unwrap();
    let text = head("/v1/images", "image/png", "content-length: 399999");
    held.write_all(text.as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let large = vec![0; 100_000];
    let answer = server.send("/v1/images", "image/png", &large);
    assert!([422, 429].contains(&answer.status), "{answer:?}");
    drop(held);
    std::thread::sleep(Duration::from_millis(1500));
    for _ in 0..8 {
        assert_eq!(server.send("/v1/images", "image/png", &large).status, 422);
    }
    server.upload(&picture(0));
}

#[test]
fn masks_to_judge_are_not_decoded_all_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let server = Served::start(folder.path(), |_| {});
    let blank = samara_image::RgbImage::new(6000, 4000);
    let blank = samara_image::PngSource::to_png(&blank).unwrap();
    let id = server.upload(&blank);
    let mask = json!({"size": [4000, 6000], "counts": [0, 24_000_000]});
    let request = json!({"image": {"id": id}, "masks": vec![mask; 64], "deadline_ms": 300});
    let started = Instant::now();
    let answer = std::thread::scope(|scope| {
        let asked = scope.spawn(|| server.post("/v1/quality", &request));
        while !asked.is_finished() {
            let asked_at = Instant::now();
            assert_eq!(server.get("/health").status, 200);
            assert!(asked_at.elapsed() < Duration::from_secs(1));
            std::thread::sleep(Duration::from_millis(50));
        }
        asked.join().unwrap()
    });
    assert_eq!(answer.status, 408, "{answer:?}");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn an_image_that_is_deleted_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let server = Served::start(folder.path(), |config| config.limits.request_seconds = 20);
    let ids: Vec<String> = (0..6).map(|shift| server.upload(&picture(shift))).collect();
    let started = Instant::now();
    let statuses = std::thread::scope(|scope| {
        let ask = |id: &String| {
            let request = json!({"image": {"id": id}, "prompts": [{"points": [[45, 50]]}]});
            server.post("/v1/predict", &request).status
        };
        let asked: Vec<_> = ids.iter().map(|id| scope.spawn(move || ask(id))).collect();
        std::thread::sleep(Duration::from_millis(100));
        for id in &ids {
            server.delete(&format!("/v1/images/{id}"));
        }
        let statuses = asked.into_iter().map(|asked| asked.join().unwrap());
        statuses.collect::<Vec<u16>>()
    });
    assert!(
        statuses
            .iter()
            .all(|status| [200, 404, 503].contains(status)),
        "{statuses:?}"
    );
    assert!(started.elapsed() < Duration::from_secs(15));
}

#[test]
fn half_sent_uploads_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(&folder);
    let file = picture(0);
    for path in ["/v1/images", "/v1/videos"] {
        let text = head(
            path,
            "application/octet-stream",
            &format!("content-length: {}", file.len()),
        );
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream.write_all(&file[..file.len() / 2]).unwrap();
        drop(stream);
    }
    std::thread::sleep(Duration::from_millis(300));
    let images = std::fs::read_dir(folder.path().join("images"))
        .unwrap()
        .count();
    let videos = std::fs::read_dir(folder.path().join("videos"))
        .unwrap()
        .count();
    assert_eq!((images, videos), (0, 0));
    server.upload(&file);
}

#[test]
fn what_is_no_http_is_answered_or_closed() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(&folder);
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"BREW /pot HTCPCP/1.0\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/predict HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\ncontent-type: application/json\r\n\r\nZZ\r\n",
        b"GET /v1/images/%ff%fe HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        b"GET /v1/images/..%2f..%2fetc%2fpasswd HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        b"GET http://evil.example/ HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n",
    ] {
        let answer = talk(&server, bytes);
        let status = answer.split(' ').nth(1).unwrap_or("closed");
        assert!(status == "closed" || status.starts_with('4'), "{answer}");
        assert!(!answer.contains("root:"), "{answer}");
    }
    let mut long = b"GET /".to_vec();
    long.extend(std::iter::repeat_n(b'a', 200_000));
    let answer = talk(&server, &long);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
        "{answer}"
    );
    assert_eq!(server.get("/health").status, 200);
}

#[test]
fn mutated_requests_are_answered_with_one_problem() {
    let folder = tempfile::tempdir().unwrap();
    let server = Served::start(folder.path(), |config| config.limits.queue = 4);
    let id = server.upload(&picture(0));
    let request = json!({
        "image": {"id": id}, "prompts": [{"points": [[45, 50], [10.5, 3, 0]], "box": [1, 2, 60, 70], "single": true}],
        "select": "best", "masks": "rle",
    });
    let text = request.to_string().into_bytes();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for _ in 0..300 {
        let mut bytes = text.clone();
        for _ in 0..=random(3) {
            let at = random(bytes.len());
            match random(4) {
                0 => bytes[at] = random(256) as u8,
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, b"0123456789-.eE[]{}\",:nul"[random(24)]),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let answer = server.send("/v1/predict", "application/json", &bytes);
        let shown = String::from_utf8_lossy(&bytes);
        assert!(answer.status < 500, "{shown}\n{answer:?}");
        if answer.status != 200 {
            assert!(answer.json()["detail"].is_string(), "{shown}\n{answer:?}");
        }
    }
}
