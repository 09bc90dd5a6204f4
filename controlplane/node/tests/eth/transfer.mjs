// Transfers by ethers and viem, as their documentation shows them, against a node that runs.
// Arguments: the JSON-RPC address, a funded private key, a recipient that has nothing yet.

import assert from "node:assert/strict";
import * as ethers from "ethers";
import * as viem from "viem";
import { privateKeyToAccount } from "viem/accounts";

const [url, key, to] = process.argv.slice(2);

async function withEthers() {
  // ethers keeps an answer for a quarter of a second, in which a transfer is final and the nonce has moved on.
  const provider = new ethers.JsonRpcProvider(url, undefined, { cacheTimeout: -1 });
  provider.pollingInterval = 50;
  const wallet = new ethers.Wallet(key, provider);
  const { chainId } = await provider.getNetwork();
  const before = await provider.getBalance(wallet.address);
  const value = ethers.parseEther("0.25");

  let fees = 0n;
  const first = await wallet.getNonce();
  const listed = [{ address: to, storageKeys: [ethers.id("a"), ethers.id("b")] }];
  for (const type of [0, 1, 2]) {
    const sent = await wallet.sendTransaction(type === 0 ? { to, value, type } : { to, value, type, accessList: listed });
    assert.equal(sent.type, type);
    const receipt = await sent.wait();
    assert.equal(receipt.status, 1);
    assert.equal(receipt.gasUsed, type === 0 ? 21000n : 21000n + 2400n + 2n * 1900n);
    assert.equal(receipt.hash, sent.hash);
    assert.equal(receipt.from, wallet.address);
    fees += receipt.fee;

    const found = await provider.getTransaction(sent.hash);
    assert.equal(found.type, type);
    assert.equal(found.nonce, first + type);
    assert.equal(found.value, value);
    assert.equal(found.chainId, chainId);
    // Its signature is shown as it was signed: the sender follows from it.
    assert.equal(ethers.Transaction.from(found).from, wallet.address);
    assert.equal(ethers.Transaction.from(found).hash, sent.hash);

    const block = await provider.getBlock(receipt.blockNumber, true);
    assert.equal(block.hash, receipt.blockHash);
    assert.equal(block.getPrefetchedTransaction(sent.hash).hash, sent.hash);
    assert.equal((await provider.getBlock(receipt.blockHash)).number, receipt.blockNumber);
  }
  assert.equal(await provider.getBalance(to), 3n * value);
  assert.equal(await provider.getBalance(wallet.address), before - 3n * value - fees);
  assert.equal(await provider.getTransactionCount(wallet.address), first + 3);
  assert.equal(await provider.getCode(to), "0x");
  assert.equal(await provider.getTransactionReceipt(ethers.ZeroHash), null);

  // Several at once take their nonces from what is pending.
  const some = await Promise.all([0, 1, 2].map((more) =>
    wallet.sendTransaction({ to, value: 1n, nonce: first + 3 + more, gasLimit: 21000n })));
  assert.ok((await provider.getTransactionCount(wallet.address, "pending")) === first + 6);
  for (const sent of some) assert.equal((await sent.wait()).status, 1);

  await assert.rejects(wallet.sendTransaction({ to, value: 1n, nonce: 0 }), { code: "NONCE_EXPIRED" });
  await assert.rejects(wallet.sendTransaction({ to, value: before }), { code: "INSUFFICIENT_FUNDS" });
  await assert.rejects(wallet.sendTransaction({ to, value: before, gasLimit: 21000n }), { code: "INSUFFICIENT_FUNDS" });
  provider.destroy();
}

async function withViem() {
  const account = privateKeyToAccount(key);
  const transport = viem.http(url);
  const id = await viem.createPublicClient({ transport }).getChainId();
  const nativeCurrency = { name: "ROKO", symbol: "ROKO", decimals: 18 };
  const chain = viem.defineChain({ id, name: "devnet", nativeCurrency, rpcUrls: { default: { http: [url] } } });
  const reader = viem.createPublicClient({ chain, transport, pollingInterval: 50 });
  const wallet = viem.createWalletClient({ account, chain, transport });
  const value = viem.parseEther("0.5");

  const given = await reader.getBalance({ address: to });
  for (const type of ["legacy", "eip2930", "eip1559"]) {
    const hash = await wallet.sendTransaction({ to, value, type });
    const receipt = await reader.waitForTransactionReceipt({ hash });
    assert.equal(receipt.status, "success");
    assert.equal(receipt.type, type);
    assert.equal(receipt.gasUsed, 21000n);
    const found = await reader.getTransaction({ hash });
    assert.equal(found.type, type);
    assert.equal(found.from.toLowerCase(), account.address.toLowerCase());
    const block = await reader.getBlock({ blockNumber: receipt.blockNumber, includeTransactions: true });
    assert.equal(block.transactions[receipt.transactionIndex].hash, hash);
  }
  assert.equal(await reader.getBalance({ address: to }), given + 3n * value);

  const history = await reader.getFeeHistory({ blockCount: 4, rewardPercentiles: [25, 75] });
  assert.equal(history.baseFeePerGas.length, history.gasUsedRatio.length + 1);
  assert.equal(history.reward.length, history.gasUsedRatio.length);

  const named = (wanted) => (error) => error.walk((cause) => cause instanceof wanted) !== null;
  await assert.rejects(wallet.sendTransaction({ to, value: 1n, nonce: 0 }), named(viem.NonceTooLowError));
  const all = await reader.getBalance({ address: account.address });
  await assert.rejects(wallet.sendTransaction({ to, value: all }), named(viem.InsufficientFundsError));
  const creation = wallet.sendTransaction({ data: "0x6000" });
  await assert.rejects(creation, /contract creation is not supported/);
}

await withEthers();
console.log("ethers", ethers.version, "ok");
await withViem();
console.log("viem ok");
