use super::field::Fe;
use super::point::*;
use std::hint::black_box;
use std::time::Instant;

#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
fn micro() {
    let p = black_box(Projective::identity());
    let e = black_box(p.double().extended());
    let c = black_box(e.cached());
    let mut best = [f64::MAX; 8];
    const N: usize = 500;
    let mut t = |i: usize, f: &mut dyn FnMut()| {
        let s = Instant::now();
        f();
        best[i] = best[i].min(s.elapsed().as_nanos() as f64 / N as f64 * 3.9);
    };
    for _ in 0..300 {
        t(0, &mut || {
            let mut q = p;
            for _ in 0..N {
                q = q.double().projective();
            }
            black_box(q);
        });
        t(1, &mut || {
            let (mut q, mut r) = (p, p);
            for _ in 0..N {
                q = q.double().projective();
                r = r.double().projective();
            }
            black_box((q, r));
        });
        t(2, &mut || {
            let mut q = e;
            for _ in 0..N {
                q = q.add(&c, 0).extended();
            }
            black_box(q);
        });
        t(3, &mut || {
            let (mut q, mut r) = (e, e);
            for _ in 0..N {
                q = q.add(&c, 0).extended();
                r = r.add(&c, 0).extended();
            }
            black_box((q, r));
        });
        t(4, &mut || {
            let mut x: Fe = p.y;
            for _ in 0..N {
                x = x.mul(&p.z).carry();
            }
            black_box(x);
        });
        t(5, &mut || {
            let mut x: Fe = p.y;
            for _ in 0..N {
                x = x.square().carry();
            }
            black_box(x);
        });
        t(6, &mut || {
            let mut x: [Fe; 4] = [p.y; 4];
            for _ in 0..N {
                for x in &mut x {
                    *x = x.mul(&p.z).carry();
                }
            }
            black_box(x);
        });
        t(7, &mut || {
            let mut x: [Fe; 4] = [p.y; 4];
            for _ in 0..N {
                for x in &mut x {
                    *x = x.square().carry();
                }
            }
            black_box(x);
        });
    }
    println!(
        "double {:.0}, two {:.0}; add {:.0}, two {:.0}; mul {:.0}, square {:.0}, 4 mul {:.0}, 4 squares {:.0}",
        best[0], best[1], best[2], best[3], best[4], best[5], best[6], best[7]
    );
}

#[test]
#[ignore]
fn micro_run() {
    unsafe { micro() }
}
