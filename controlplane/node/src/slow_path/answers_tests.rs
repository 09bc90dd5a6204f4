//! Two stations that talk to each other by frames, and frames that nobody should have sent.

use super::answers::{Claim, Said, Station};
use super::neighbours::Question;
use core::net::IpAddr;
use proptest::prelude::*;
use roko_wire::host_frame::{HostFrame, host_frame};
use roko_wire::net::Mac;

const A: Mac = Mac([2, 0, 0, 0, 0, 0xa]);
const B: Mac = Mac([2, 0, 0, 0, 0, 0xb]);
const C: Mac = Mac([2, 0, 0, 0, 0, 0xc]);

fn station(mac: Mac, ip: &str) -> Station {
    Station { mac, ip: ip.parse().expect("an address") }
}

/// A pair of each family.
fn pairs() -> [(Station, Station); 2] {
    [
        (station(A, "10.0.0.1"), station(B, "10.0.0.2")),
        (station(A, "2001:db8::1"), station(B, "2001:db8::2:3")),
    ]
}

fn asks(from: &Station, ip: IpAddr, to: Option<Mac>) -> Vec<u8> {
    let mut out = [0; 1_500];
    let bytes = from.ask(&Question { ip, to }, &mut out).expect("it fits");
    out[..bytes].to_vec()
}

fn hears(who: &Station, frame: &[u8]) -> (Said, Vec<u8>) {
    let mut out = [0; 1_500];
    let said = who.hear(frame, &mut out).expect("it is for this station");
    let bytes = said.answer.map_or(0, |answer| answer.bytes);
    (said, out[..bytes].to_vec())
}

#[test]
fn who_is_asked_answers_and_both_learn() {
    for (a, b) in pairs() {
        for to in [None, Some(B)] {
            let question = asks(&a, b.ip, to);
            assert_eq!(host_frame(&question, &b.ip), Some(HostFrame::Resolution), "the filter passes it on");
            let (said, answer) = hears(&b, &question);
            assert_eq!(said.claim, Some(Claim { ip: a.ip, mac: A, answer: false }));
            assert_eq!(host_frame(&answer, &a.ip), Some(HostFrame::Resolution));
            let (said, none) = hears(&a, &answer);
            assert_eq!(said.claim, Some(Claim { ip: b.ip, mac: B, answer: true }));
            assert!(none.is_empty(), "an answer is not answered");
        }
    }
}

#[test]
fn what_is_for_others_is_left_alone() {
    for (a, b) in pairs() {
        let other = Station { mac: C, ..b };
        let mut out = [0; 1_500];
        assert_eq!(other.hear(&asks(&a, b.ip, Some(B)), &mut out), None, "another card's frame");
        let elsewhere: IpAddr =
            if a.ip.is_ipv4() { [10, 0, 0, 3].into() } else { "2001:db8::3".parse().unwrap() };
        let said = b.hear(&asks(&a, elsewhere, None), &mut out);
        assert!(said.is_none_or(|said| said.answer.is_none()), "another's address");
        assert_eq!(host_frame(&asks(&a, elsewhere, None), &b.ip), None);
    }
}

#[test]
fn an_announcement_is_heard_and_one_of_the_own_address_is_a_conflict() {
    for (a, b) in pairs() {
        let mut out = [0; 1_500];
        let bytes = a.announce(&mut out).expect("it fits");
        let (said, answer) = hears(&b, &out[..bytes]);
        assert_eq!(said.claim, Some(Claim { ip: a.ip, mac: A, answer: false }));
        assert!(answer.is_empty() && !said.conflict);
        let (said, _) = hears(&Station { mac: C, ..a }, &out[..bytes]);
        assert!(said.conflict && said.claim.is_none());
    }
}

/// An echo request as another implementation writes it: byte by byte.
fn echo_request(a: &Station, b: &Station, data: &[u8]) -> Vec<u8> {
    let mut icmp = if a.ip.is_ipv4() { vec![8, 0, 0, 0, 1, 2, 3, 4] } else { vec![128, 0, 0, 0, 1, 2, 3, 4] };
    icmp.extend_from_slice(data);
    let mut frame = [B.0, A.0].concat();
    let sum = |parts: &[&[u8]]| {
        let bytes = parts.concat();
        let pairs =
            bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
        let mut sum: u32 = pairs.sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        (!(sum as u16)).to_be_bytes()
    };
    match (a.ip, b.ip) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let check = sum(&[&icmp]);
            icmp[2..4].copy_from_slice(&check);
            let total = (20 + icmp.len() as u16).to_be_bytes();
            let mut header = vec![0x45, 0, total[0], total[1], 0, 9, 0x40, 0, 64, 1, 0, 0];
            header.extend([from.octets(), to.octets()].concat());
            let check = sum(&[&header]);
            header[10..12].copy_from_slice(&check);
            frame.extend([8, 0]);
            frame.extend(header);
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let length = (icmp.len() as u32).to_be_bytes();
            let check = sum(&[&from.octets(), &to.octets(), &length, &[0, 0, 0, 58], &icmp]);
            icmp[2..4].copy_from_slice(&check);
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, length[2], length[3], 58, 64]);
            frame.extend([from.octets(), to.octets()].concat());
        }
        _ => unreachable!("a pair is of one family"),
    }
    frame.extend(icmp);
    frame
}

#[test]
fn an_echo_request_comes_back_with_its_data() {
    for (a, b) in pairs() {
        let data: Vec<u8> = (0..=255).collect();
        let request = echo_request(&a, &b, &data);
        assert_eq!(host_frame(&request, &b.ip), Some(HostFrame::Echo));
        let (said, reply) = hears(&b, &request);
        assert!(said.answer.is_some_and(|answer| answer.echo && answer.to == a.ip));
        assert_eq!(reply.len(), request.len(), "no answer is longer than its question");
        assert_eq!((&reply[..6], &reply[6..12]), (&A.0[..], &B.0[..]));
        assert!(reply.ends_with(&data));
        // The reply is what the asker's own parser takes for one: checksums and addresses hold.
        let mut broken = request.clone();
        let last = broken.len() - 1;
        broken[last] ^= 1;
        assert_eq!(b.hear(&broken, &mut [0; 1_500]), None, "its checksum is wrong");
        assert_eq!(b.hear(&request, &mut [0; 100]), None, "an answer that does not fit is not given");
    }
}

#[test]
fn discovery_that_came_through_a_router_is_not_believed() {
    let (a, b) = pairs()[1];
    let mut question = asks(&a, b.ip, None);
    question[21] = 254; // the hop limit is in no checksum
    assert_eq!(b.hear(&question, &mut [0; 1_500]), None);
}

proptest! {
    #[test]
    fn whatever_comes_nothing_longer_goes_out(
        start in 0usize..6,
        changes in prop::collection::vec((0usize..120, any::<u8>()), 0..6),
        cut in 0usize..200,
        noise in prop::collection::vec(any::<u8>(), 0..90),
    ) {
        let [(a, b), (a6, b6)] = pairs();
        let mut frame = match start {
            0 => asks(&a, b.ip, None),
            1 => asks(&a6, b6.ip, None),
            2 => echo_request(&a, &b, &[7; 40]),
            3 => echo_request(&a6, &b6, &[7; 40]),
            4 => hears(&b6, &asks(&a6, b6.ip, None)).1,
            _ => noise,
        };
        for (at, value) in changes {
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        frame.truncate(200 - cut);
        for who in [a, b, a6, b6] {
            let _ = host_frame(&frame, &who.ip);
            if let Some(answer) = who.hear(&frame, &mut [0; 1_500]).and_then(|said| said.answer) {
                prop_assert!(answer.bytes <= frame.len().max(86), "{} bytes", answer.bytes);
            }
        }
    }
}
