//! A name server that says what a test tells it to, over UDP and TCP. It knows one name only: the one it is asked for.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::PATIENCE;

/// RFC 1035 section 3.2.2, RFC 3596 section 2.1.
const A: u16 = 1;
const AAAA: u16 = 28;
/// RFC 1035 section 4.1.1.
const SERVER_FAILURE: u8 = 2;
const NAME_ERROR: u8 = 3;
const CUT_SHORT: u16 = 0x0200;

/// What the server answers.
#[derive(Clone)]
pub(crate) enum Says {
    /// These addresses, each for the questions of its kind, for so many seconds.
    Addresses(Vec<IpAddr>, u32),
    /// These to questions for IPv4 addresses, and to others that it cannot tell.
    HalfOf(Vec<IpAddr>),
    /// These over TCP, and over UDP that the answer is too long.
    TooLongForUdp(Vec<IpAddr>),
    /// First what is no answer, with the first address: another id, another question, another sender. Then the second one.
    Forged(IpAddr, IpAddr),
    /// That there is no such name.
    NoSuchName,
    /// That it cannot tell.
    Failure,
    /// Nothing.
    Nothing,
}

/// A name server on the loopback. It ends when this is dropped.
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    stops: AtomicBool,
    says: Mutex<Says>,
    questions: AtomicUsize,
    questions_over_tcp: AtomicUsize,
}

impl NameServer {
    #[allow(clippy::disallowed_methods, reason = "a server of the test's own, with nothing of Ringfort in it")]
    pub(crate) fn start(says: Says) -> Self {
        let (udp, tcp) = (0..100)
            .find_map(|_| {
                let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
                // Another test may have the port for UDP.
                Some((UdpSocket::bind(tcp.local_addr().unwrap()).ok()?, tcp))
            })
            .unwrap();
        let address = udp.local_addr().unwrap();
        let shared = Arc::new(Shared {
            stops: AtomicBool::new(false),
            says: Mutex::new(says),
            questions: AtomicUsize::new(0),
            questions_over_tcp: AtomicUsize::new(0),
        });
        let (of_udp, of_tcp) = (shared.clone(), shared.clone());
        let threads = vec![
            std::thread::spawn(move || of_udp.serve_udp(&udp)),
            std::thread::spawn(move || {
                for stream in tcp.incoming().map_while(Result::ok) {
                    if of_tcp.stops.load(Ordering::SeqCst) {
                        return;
                    }
                    // One after the other is enough for a test, and what it sends is no failure of it.
                    let _ = of_tcp.serve_tcp(stream);
                }
            }),
        ];
        Self { address, shared, threads }
    }

    /// Answers so from now on.
    pub(crate) fn say(&self, says: Says) {
        *self.shared.says.lock().unwrap() = says;
    }

    /// Questions so far, over UDP.
    pub(crate) fn questions(&self) -> usize {
        self.shared.questions.load(Ordering::SeqCst)
    }

    /// Questions so far, over TCP.
    pub(crate) fn questions_over_tcp(&self) -> usize {
        self.shared.questions_over_tcp.load(Ordering::SeqCst)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.shared.stops.store(true, Ordering::SeqCst);
        // Wakes both threads.
        let _ = UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[], self.address);
        drop(TcpStream::connect(self.address));
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

impl Shared {
    fn serve_udp(&self, socket: &UdpSocket) {
        let mut buffer = [0; 4096];
        // Another sender than the one that was asked.
        let elsewhere = UdpSocket::bind("127.0.0.1:0").unwrap();
        loop {
            let (length, client) = socket.recv_from(&mut buffer).unwrap();
            if self.stops.load(Ordering::SeqCst) {
                return;
            }
            let Some(question) = Question::parse(&buffer[..length]) else { continue };
            self.questions.fetch_add(1, Ordering::SeqCst);
            let says = self.says.lock().unwrap().clone();
            let send = |answer: Vec<u8>| drop(socket.send_to(&answer, client));
            match says {
                Says::TooLongForUdp(_) => send(question.answer(CUT_SHORT, 0, &[], 0)),
                Says::Forged(forged, truth) => {
                    let lie = question.answer(0, 0, &[forged], 300);
                    let mut other_id = lie.clone();
                    other_id[1] ^= 1;
                    let mut other_question = lie.clone();
                    // The first letter of the name's first label.
                    other_question[13] ^= 1;
                    drop(elsewhere.send_to(&lie, client));
                    [other_id, other_question, question.answer(0, 0, &[truth], 1)].into_iter().for_each(send);
                }
                says => question.answer_with(&says).into_iter().for_each(send),
            }
        }
    }

    fn serve_tcp(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        loop {
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            let mut message = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut message)?;
            let Some(question) = Question::parse(&message) else { return Ok(()) };
            self.questions_over_tcp.fetch_add(1, Ordering::SeqCst);
            let says = self.says.lock().unwrap().clone();
            let answer = match says {
                Says::TooLongForUdp(addresses) => Some(question.answer(0, 0, &addresses, 1)),
                says => question.answer_with(&says),
            };
            if let Some(answer) = answer {
                stream.write_all(&(answer.len() as u16).to_be_bytes())?;
                stream.write_all(&answer)?;
            }
        }
    }
}

/// The one question of a message (RFC 1035 section 4.1.2).
struct Question<'m> {
    id: [u8; 2],
    /// Name, type and class.
    bytes: &'m [u8],
    kind: u16,
}

impl<'m> Question<'m> {
    fn parse(message: &'m [u8]) -> Option<Self> {
        let rest = message.get(12..)?;
        let end = rest.iter().position(|byte| *byte == 0)? + 1;
        let bytes = rest.get(..end + 4)?;
        Some(Self { id: [message[0], message[1]], bytes, kind: u16::from_be_bytes([bytes[end], bytes[end + 1]]) })
    }

    fn answer_with(&self, says: &Says) -> Option<Vec<u8>> {
        match says {
            Says::Addresses(addresses, ttl) => Some(self.answer(0, 0, addresses, *ttl)),
            Says::HalfOf(addresses) if self.kind == A => Some(self.answer(0, 0, addresses, 1)),
            Says::HalfOf(_) | Says::Failure => Some(self.answer(0, SERVER_FAILURE, &[], 0)),
            Says::NoSuchName => Some(self.answer(0, NAME_ERROR, &[], 0)),
            Says::TooLongForUdp(_) | Says::Forged(..) | Says::Nothing => None,
        }
    }

    /// An answer with those of the addresses that are of the question's kind.
    fn answer(&self, flags: u16, code: u8, addresses: &[IpAddr], ttl: u32) -> Vec<u8> {
        let kind = |address: &IpAddr| if address.is_ipv4() { A } else { AAAA };
        let addresses: Vec<_> = addresses.iter().filter(|address| kind(address) == self.kind).collect();
        let mut answer = self.id.to_vec();
        // A response, to a question that wished recursion, from a server that has it.
        answer.extend((0x8180 | flags | u16::from(code)).to_be_bytes());
        for count in [1, addresses.len() as u16, 0, 0] {
            answer.extend(count.to_be_bytes());
        }
        answer.extend(self.bytes);
        for address in addresses {
            // The name as in the question, by its offset; class IN.
            answer.extend([0xc0, 12]);
            answer.extend(self.kind.to_be_bytes());
            answer.extend(1_u16.to_be_bytes());
            answer.extend(ttl.to_be_bytes());
            let octets = match address {
                IpAddr::V4(address) => address.octets().to_vec(),
                IpAddr::V6(address) => address.octets().to_vec(),
            };
            answer.extend((octets.len() as u16).to_be_bytes());
            answer.extend(octets);
        }
        answer
    }
}
