// SPDX-License-Identifier: BSD-3-Clause
//! Valkey's bytes, a model, and hostile bytes.

use super::{Element, ListPack, NewElement, Pos};

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn element(&mut self) -> Vec<u8> {
        match self.below(8) {
            0 => self.below(200).to_string().into_bytes(),
            1 => (self.below(20_000) as i64 - 10_000).to_string().into_bytes(),
            2 => {
                let shift = self.below(64);
                ((self.0 as i64) >> shift).to_string().into_bytes()
            }
            3 => vec![b'x'; self.below(70)],
            4 if self.below(20) == 0 => vec![b'y'; 4090 + self.below(10)],
            5 => vec![b'z'; 120 + self.below(10)],
            6 => b"007".to_vec(),
            _ => format!("v{}", self.below(30)).into_bytes(),
        }
    }
}

fn check_against(pack: &ListPack, model: &[Vec<u8>]) {
    assert_eq!(pack.len(), model.len());
    assert_eq!(pack.is_empty(), model.is_empty());
    assert!(pack.iter().map(|e| e.to_vec()).eq(model.iter().cloned()));
    assert!(pack.iter().rev().map(|e| e.to_vec()).eq(model.iter().rev().cloned()));
    assert_eq!(ListPack::from_bytes_checked(pack.bytes().to_vec()).as_ref(), Ok(pack));
    assert!(pack.heap_bytes() >= pack.bytes().len());
    assert!(pack.heap_bytes() <= pack.bytes().len() * 5 / 4 + 16, "{} {}", pack.heap_bytes(), pack.bytes().len());
}

#[test]
fn random_operations_do_what_a_vector_does() {
    for seed in 1..=30u64 {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let (mut pack, mut model) = (ListPack::new(), Vec::<Vec<u8>>::new());
        for _ in 0..300 {
            let element = random.element();
            let index = random.below(model.len() + 1);
            let pos = pack.seek(index as isize).unwrap_or(pack.end());
            match random.below(9) {
                0 | 1 => {
                    pack.push_back(&element);
                    model.push(element);
                }
                2 | 3 => {
                    pack.push_front(&element);
                    model.insert(0, element);
                }
                4 | 5 => {
                    pack.insert(pos, &element);
                    assert!(pack.at(pos).unwrap().is(&element));
                    model.insert(index, element);
                }
                6 if index < model.len() => {
                    pack.replace(pos, &element);
                    assert!(pack.at(pos).unwrap().is(&element));
                    model[index] = element;
                }
                7 if random.below(3) == 0 => {
                    assert_eq!(pack.count_matches(&element), model.iter().filter(|own| **own == element).count());
                    let before = model.len();
                    model.retain(|own| own.len() != element.len());
                    assert_eq!(pack.retain(|own| own.byte_len() != element.len()), before - model.len());
                }
                7 => {
                    let count = random.below(4);
                    let expected = count.min(model.len() - index);
                    assert_eq!(pack.remove(pos, count), expected);
                    model.drain(index..index + expected);
                }
                _ if random.below(10) == 0 => {
                    let mut tail = pack.split_off(pos);
                    let model_tail = model.split_off(index);
                    check_against(&tail, &model_tail);
                    check_against(&pack, &model);
                    tail.append(&pack);
                    model = model_tail.into_iter().chain(model).collect();
                    pack = tail;
                }
                _ => {
                    let found = pack.find(&element, pack.first(), 0);
                    let expected = model.iter().position(|e| *e == element);
                    assert_eq!(found, expected.and_then(|i| pack.seek(i as isize)));
                    let found = pack.find(&element, pack.first(), 1);
                    let expected = model.iter().step_by(2).position(|e| *e == element);
                    assert_eq!(found, expected.and_then(|i| pack.seek(2 * i as isize)));
                }
            }
            for index in [0, 1, -1, -2, index as isize] {
                let in_model = if index < 0 { model.len() as isize + index } else { index };
                let expected = usize::try_from(in_model).ok().and_then(|i| model.get(i));
                assert_eq!(pack.get(index).map(|e| e.to_vec()).as_ref(), expected);
            }
            check_against(&pack, &model);
        }
    }
}

#[test]
fn bytes_are_valkeys() {
    let mut pack = ListPack::new();
    assert_eq!(pack.bytes(), [7, 0, 0, 0, 0, 0, 0xFF]);
    for element in ["1", "-1", "hello", "4096", "-8388608", "8388608", "2147483648", ""] {
        pack.push_back(element.as_bytes());
    }
    let mut expected = vec![0, 0, 0, 0, 8, 0];
    expected.extend([1, 1]);
    expected.extend([0xDF, 0xFF, 2]);
    expected.extend(*b"\x85hello\x06");
    expected.extend([0xF1, 0x00, 0x10, 3]);
    expected.extend([0xF2, 0x00, 0x00, 0x80, 4]);
    expected.extend([0xF3, 0x00, 0x00, 0x80, 0x00, 5]);
    expected.extend([0xF4, 0x00, 0x00, 0x00, 0x80, 0, 0, 0, 0, 9]);
    expected.extend([0x80, 1]);
    expected.push(0xFF);
    expected[0] = expected.len() as u8;
    assert_eq!(pack.bytes(), expected);
}

#[test]
fn long_strings_have_long_heads_and_tails() {
    for (len, overhead) in [(63, 2), (64, 3), (125, 3), (126, 4), (4095, 4), (4096, 7), (16_378, 7), (16_379, 8)] {
        let element = vec![b'a'; len];
        assert_eq!(ListPack::entry_bytes(&element), len + overhead, "{len}");
        let mut pack = ListPack::new();
        pack.push_back(&element);
        pack.push_front(b"1");
        check_against(&pack, &[b"1".to_vec(), element]);
    }
}

#[test]
fn several_elements_at_once_are_as_one_by_one() {
    let mut random = Random(7);
    let (mut one_by_one, mut at_once) = (ListPack::new(), ListPack::new());
    for _ in 0..50 {
        let elements: Vec<Vec<u8>> = (0..random.below(9)).map(|_| random.element()).collect();
        elements.iter().for_each(|element| one_by_one.push_back(element));
        one_by_one.push_back_int(elements.len() as i64);
        let new = elements.iter().map(|element| NewElement::Bytes(element));
        at_once.push_back_all(new.chain([NewElement::Int(elements.len() as i64)]));
        assert_eq!(at_once.bytes(), one_by_one.bytes());
    }
}

#[test]
fn more_elements_than_the_header_can_say() {
    let mut pack = ListPack::new();
    for _ in 0..70_000 {
        pack.push_back_int(7);
    }
    assert_eq!(&pack.bytes()[4..6], [0xFF, 0xFF]);
    assert_eq!(pack.len(), 70_000);
    pack.remove(pack.first(), 10_000);
    assert_eq!(pack.len(), 60_000);
    assert_eq!(&pack.bytes()[4..6], 60_000u16.to_le_bytes());
    assert!(ListPack::from_bytes_checked(pack.bytes().to_vec()).is_ok());
}

#[test]
fn text_stored_as_a_string_by_another_server_equals_its_integer() {
    let bytes = [12, 0, 0, 0, 1, 0, 0x83, b'1', b'2', b'3', 4, 0xFF];
    let pack = ListPack::from_bytes_checked(bytes.to_vec()).unwrap();
    assert_eq!(pack.get(0), Some(Element::Str(b"123")));
    assert!(pack.get(0).unwrap().is(b"123"));
    assert_eq!(pack.find(b"123", pack.first(), 0), Some(pack.first()));
    assert_eq!(pack.get(0).unwrap().as_int(), Some(123));
}

/// Whatever passes the check can be walked both ways and changed.
#[test]
fn damaged_bytes_are_refused_or_harmless() {
    let mut random = Random(99);
    let mut whole = ListPack::new();
    for _ in 0..12 {
        whole.push_back(&random.element());
    }
    for _ in 0..20_000 {
        let mut bytes = whole.bytes().to_vec();
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len());
            bytes[at] = random.below(256) as u8;
        }
        if random.below(4) == 0 {
            bytes.truncate(random.below(bytes.len() + 1));
        }
        if let Ok(mut pack) = ListPack::from_bytes_checked(bytes) {
            assert_eq!(pack.iter().count(), pack.iter().rev().count());
            pack.insert(pack.first(), b"x");
            pack.remove(pack.first(), 2);
            pack.push_back(b"5");
            assert_eq!(pack.len(), pack.iter().count());
        }
    }
    for bytes in [&b""[..], &[6, 0, 0, 0, 0, 0], &[7, 0, 0, 0, 0, 0, 0], &[9, 0, 0, 0, 1, 0, 0xF5, 1, 0xFF]] {
        assert!(ListPack::from_bytes_checked(bytes.to_vec()).is_err());
    }
}

#[test]
fn handles_are_small() {
    assert_eq!(size_of::<Pos>(), 4);
    assert_eq!(size_of::<Option<ListPack>>(), 8);
}
