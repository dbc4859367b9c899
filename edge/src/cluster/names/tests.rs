use std::net::UdpSocket;
use std::path::Path;
use std::sync::mpsc;

use tokio::sync::mpsc::{unbounded_channel, UnboundedSender};

use super::*;
use crate::cluster::clusters;
use crate::config::{self, OneFile};
use crate::plan::Plan;

/// Answers questions: for the address of `held.test` only from the time on at which that of `often.test` was asked for a
/// third time, which `asked` is told before.
fn serve(socket: &UdpSocket, asked: &UnboundedSender<()>, go_on: &mpsc::Receiver<()>) {
    let mut buffer = [0; 512];
    let (mut often, mut held) = (0, Some(Vec::new()));
    // It ends with the test.
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        let question = buffer[..length].to_vec();
        if has(&question, b"\x04held\x04test\0") {
            if let Some(held) = &mut held {
                held.push((question, from));
                continue;
            }
        } else if has(&question, b"\x05often\x04test\0\0\x01") {
            often += 1;
            if often == 3 {
                let _ = asked.send(());
                let _ = go_on.recv();
                for (question, from) in held.take().unwrap_or_default() {
                    let _ = socket.send_to(&answer(&question), from);
                }
            }
        }
        let _ = socket.send_to(&answer(&question), from);
    }
}

fn has(question: &[u8], name: &[u8]) -> bool {
    question.windows(name.len()).any(|part| part == name)
}

/// Makes the answer of a question (RFC 1035 section 4): for A the address 192.0.2.1 for a second, else none.
fn answer(question: &[u8]) -> Vec<u8> {
    let name = question[12..].iter().position(|b| *b == 0).unwrap();
    let end = 12 + name + 5;
    let is_a = question[end - 4..end] == [0, 1, 0, 1];
    let mut answer = question[..end].to_vec();
    answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
    if is_a {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 192, 0, 2, 1]);
    }
    answer
}

#[tokio::test]
async fn a_start_waits_for_each_name_and_not_for_as_many_answers() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = socket.local_addr().unwrap();
    let ((tell, mut asked), (go_on, held)) = (unbounded_channel(), mpsc::channel());
    std::thread::spawn(move || serve(&socket, &tell, &held));
    let text = format!(
        "listen: 127.0.0.1:80\nresolver: '{server}'\nsites: {{routes: {{proxy: ['often.test:1', 'held.test:1']}}}}\n"
    );
    let config = config::load(Path::new("edge.yaml"), &OneFile(text)).unwrap();
    let plan = Plan::compile(&config).unwrap();
    let cluster = clusters(&plan, &[]).unwrap().remove(0);
    let (tell, mut known) = oneshot::channel();
    tokio::select! {
        () = follow(&cluster, tell) => unreachable!("it ends with the test"),
        () = async {
            asked.recv().await.unwrap();
            // Two answers have come, both of one name.
            assert!(known.try_recv().is_err());
            go_on.send(()).unwrap();
            (&mut known).await.unwrap();
            let spots = cluster.known_spots();
            assert!(spots.iter().all(|spots| spots.len() == 1), "{spots:?}");
        } => {}
    }
}
