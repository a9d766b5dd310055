//! A name server that knows one address, for all names.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;

pub struct Names {
    address: Arc<Mutex<Ipv4Addr>>,
    pub at: SocketAddr,
}

impl Names {
    pub async fn new(address: [u8; 4]) -> Names {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let at = socket.local_addr().expect("an address");
        let address = Arc::new(Mutex::new(Ipv4Addr::from(address)));
        let known = Arc::clone(&address);
        tokio::spawn(async move {
            let mut query = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut query).await {
                let address = *known.lock().expect("whole");
                let _ = socket.send_to(&answer(&query[..length], address), from).await;
            }
        });
        Names { address, at }
    }

    pub fn change(&self, address: [u8; 4]) {
        *self.address.lock().expect("whole") = Ipv4Addr::from(address);
    }
}

/// RFC 1035, section 4: the header, the question as it was asked, and to a question for an address the address for a second.
fn answer(query: &[u8], address: Ipv4Addr) -> Vec<u8> {
    const HEADER: usize = 12;
    let name = query[HEADER..].iter().position(|byte| *byte == 0).expect("a question") + 1;
    let question = &query[HEADER..HEADER + name + 4];
    let of_address = question[name..name + 2] == [0, 1];
    let mut answer = query[..2].to_vec();
    answer.extend([0x81, 0x80, 0, 1, 0, u8::from(of_address), 0, 0, 0, 0]);
    answer.extend(question);
    if of_address {
        answer.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        answer.extend(address.octets());
    }
    answer
}
