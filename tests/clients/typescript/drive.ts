// The whole job, through the client that @hey-api/openapi-ts generates: feeds in, a report out.
// Run by `test_generated_clients.py`: drive.js URL FOLDER, with the key in STOREWATCH_KEY.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { openAsBlob } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import * as storewatch from './client';
import { createClient, createConfig } from './client/client';

const PATIENCE = 60_000; // milliseconds
const BRAND = 'Fresh & "Co", Söhne: 1';

type Answer<T> = Promise<
  ({ data: T; error: undefined } | { data: undefined; error: storewatch.ProblemDetails }) & {
    response: Response;
  }
>;

async function main(url: string, folder: string): Promise<void> {
  const auth = process.env['STOREWATCH_KEY'] ?? '';
  const client = createClient(createConfig({ baseUrl: url, auth }));

  const zones = (await rows(join(folder, 'timezones.csv'))).map(
    ([store_id, timezone]): storewatch.TimezoneRow => ({ store_id, timezone }),
  );
  let loaded = await given(storewatch.postTimezones({ client, body: zones }));
  assert.deepEqual([loaded.rows, loaded.new], [zones.length, zones.length]);

  // 409: there is no poll yet, so no time to which an availability could be told.
  const path = { store_id: zones[0]!.store_id };
  let problem = await refused(409, storewatch.getStoreAvailability({ client, path }));
  assert.equal(kind(problem), 'no-polls');

  const hours = (await rows(join(folder, 'business_hours.csv'))).map(
    ([store_id, day, start_time_local, end_time_local]): storewatch.BusinessHoursRow => ({
      store_id,
      day: Number(day),
      start_time_local,
      end_time_local,
    }),
  );
  loaded = await given(storewatch.postBusinessHours({ client, body: hours }));
  assert.equal(loaded.rows, hours.length);
  const polls = join(folder, 'polls.csv');
  loaded = await given(storewatch.postPollsCsv({ client, body: await openAsBlob(polls) }));
  assert.ok(loaded.new > 0);
  const recognised = await given(storewatch.postFeed({ client, body: await openAsBlob(polls) }));
  assert.deepEqual([recognised.feed, recognised.new], ['polls', 0]);
  assert.equal((await given(storewatch.getFeeds({ client }))).polls, loaded.new);
  const again = (await rows(polls)).slice(0, 100).map(poll);
  loaded = await given(storewatch.postPolls({ client, body: again }));
  assert.deepEqual([loaded.new, loaded.replaced, loaded.unchanged], [0, 0, 100]);
  const lines = new Blob(again.map((row) => `${JSON.stringify(row)}\n`));
  loaded = await given(storewatch.postPollsNdjson({ client, body: lines }));
  assert.deepEqual([loaded.rows, loaded.unchanged], [100, 100]);

  // 422: a store of nowhere, told by row and column.
  const nowhere = [{ store_id: path.store_id, timezone: 'America/Nowhere' }];
  problem = await refused(422, storewatch.postTimezones({ client, body: nowhere }));
  assert.equal(problem.errors?.[0]?.line, 1);
  assert.equal(problem.errors?.[0]?.column, 'timezone');

  // Every second store is of a brand; these have to be up all the time.
  const chosen = zones
    .map(({ store_id }) => store_id)
    .sort()
    .filter((_, place) => place % 2 === 0);
  const named = chosen.map(
    (store_id): storewatch.StoreRow => ({
      store_id,
      name: `No. ${store_id}`,
      tags: { brand: BRAND },
      target: '1',
    }),
  );
  loaded = await given(storewatch.postStores({ client, body: named }));
  assert.equal(loaded.rows, chosen.length);

  // 404: a report that nobody asked for.
  const nothing = { report_id: randomUUID() };
  problem = await refused(404, storewatch.getReport({ client, path: nothing }));

  const asked = await given(storewatch.createReport({ client }));
  const report = await completed({ report_id: asked.id });
  assert.equal(report.progress.stores_done, report.progress.stores_total);
  assert.equal(report.progress.percent, 100);
  const csv = await given(
    storewatch.getReportCsv({ client, path: { report_id: report.id }, parseAs: 'blob' }),
  );
  await writeFile(join(folder, 'report.csv'), Buffer.from(await csv.arrayBuffer()));

  const sold = await pages({ report_id: report.id });
  assert.deepEqual(sold.map(({ store_id }) => store_id).sort(), chosen);
  const down = sold.map(({ windows }) => windows.at(-1)!.downtime);
  assert.deepEqual(
    down,
    [...down].sort((one, other) => other - one),
  );
  for (const { store_id, name, tags, target, windows } of sold) {
    assert.deepEqual([name, tags, target], [`No. ${store_id}`, { brand: BRAND }, '1']);
    for (const { uptime, downtime, budget, met } of windows) {
      assert.equal(budget!.left + downtime, 0);
      assert.equal(met, uptime + downtime > 0 ? downtime === 0 : null);
    }
  }

  const body = { group_by: ['brand'], target: '50%' };
  const grouped = await given(storewatch.createReport({ client, body }));
  await completed({ report_id: grouped.id });
  const [others, ofBrand] = await groups({ report_id: grouped.id });
  assert.deepEqual(others!.values, { brand: '' });
  assert.deepEqual(ofBrand!.values, { brand: BRAND });
  assert.equal(ofBrand!.stores, chosen.length);
  const week = ofBrand!.windows.at(-1)!;
  const sum = down.reduce((sum, one) => sum + one, 0);
  assert.ok(Math.abs(week.downtime - sum) < 1e-6);
  assert.equal(week.budget!.used, week.downtime);
  assert.deepEqual(
    week.worst.map(({ store_id }) => store_id),
    sold
      .filter(({ windows }) => windows.at(-1)!.downtime > 0)
      .slice(0, 3)
      .map(({ store_id }) => store_id),
  );

  const delivered = await scheduled(join(folder, 'delivered'));
  assert.deepEqual(await readFile(delivered), await readFile(join(folder, 'report.csv')));

  const query = { as_of: report.as_of! };
  const state = await given(storewatch.getStoreState({ client, path, query }));
  assert.equal(state.as_of, report.as_of);
  assert.ok(state.newest_poll!.timestamp_utc <= state.as_of);
  const { count, longest, items } = await given(
    storewatch.listStoreOutages({ client, path, query }),
  );
  assert.equal(count, items.length);
  const durations = items.map(({ duration }) => duration);
  assert.equal(longest, count > 0 ? Math.max(...durations) : null);
  assert.ok(state.state !== 'down' || items.some(({ open }) => open));

  const known = await given(storewatch.getStoreAvailability({ client, path }));
  assert.equal(known.uptime + known.downtime + known.unknown, known.business_time);

  // A state that only a later version of the service knows arrives as it is.
  const fetch = async () => Response.json({ ...report, status: 'paused' });
  const later = createClient(createConfig({ baseUrl: url, fetch }));
  const unknown = await given(
    storewatch.getReport({ client: later, path: { report_id: report.id } }),
  );
  assert.equal(unknown.status as string, 'paused');

  /** The stores of the brand, those with the most downtime first, page by page. */
  async function pages(path: { report_id: string }): Promise<storewatch.ReportStore[]> {
    const found: storewatch.ReportStore[] = [];
    let cursor: string | undefined;
    do {
      const query = { tag: [`brand:${BRAND}`], sort: '-downtime_last_week', limit: 7, cursor };
      const page = await given(storewatch.listReportStores({ client, path, query }));
      found.push(...page.items);
      assert.ok(found.length <= page.total);
      cursor = page.next_cursor ?? undefined;
    } while (cursor !== undefined);
    return found;
  }

  /** The groups of a report, a page each. */
  async function groups(path: { report_id: string }): Promise<storewatch.ReportGroup[]> {
    const found: storewatch.ReportGroup[] = [];
    let cursor: string | undefined;
    do {
      const query = { limit: 1, cursor };
      const page = await given(storewatch.listReportGroups({ client, path, query }));
      found.push(...page.items);
      cursor = page.next_cursor ?? undefined;
    } while (cursor !== undefined);
    return found;
  }

  /** Let a schedule deliver a report like the one that was asked for; its file. */
  async function scheduled(deliver_to: string): Promise<string> {
    const body: storewatch.NewSchedule = {
      name: 'of the newest poll',
      cron: '0 6 29 2 *',
      timezone: 'UTC',
      as_of: 'newest_poll',
      deliver_to,
      deliver_as: ['csv', 'ndjson'],
    };
    const made = await given(storewatch.createSchedule({ client, body }));
    assert.equal(made.deliver_to, deliver_to);
    const path = { schedule_id: made.id };
    const report = await given(storewatch.runSchedule({ client, path }));
    assert.deepEqual([report.schedule_id, report.scheduled_for], [made.id, null]);
    for (const deadline = Date.now() + PATIENCE; Date.now() < deadline; await sleep(50)) {
      const { runs } = await given(storewatch.getSchedule({ client, path }));
      const { status, files, error } = runs![0]!.delivery!;
      if (status === 'delivered') {
        assert.equal(files[1], files[0]!.replace(/csv$/, 'ndjson'));
        return files[0]!;
      }
      assert.equal(status, 'waiting', error ?? '');
    }
    throw new Error('the report was not delivered');
  }

  /** Ask how far a report is until it is completed. */
  async function completed(path: { report_id: string }): Promise<storewatch.ReportDetails> {
    for (const deadline = Date.now() + PATIENCE; Date.now() < deadline; await sleep(50)) {
      const report = await given(storewatch.getReport({ client, path }));
      if (report.status === 'completed') {
        return report;
      }
      assert.ok(report.status === 'queued' || report.status === 'running', report.error ?? '');
    }
    throw new Error('the report was not completed');
  }
}

async function given<T>(answer: Answer<T>): Promise<T> {
  const { data, error } = await answer;
  if (error !== undefined) {
    throw new Error(`${error.status}: ${error.detail}`);
  }
  return data;
}

async function refused<T>(status: number, answer: Answer<T>): Promise<storewatch.ProblemDetails> {
  const { error, response } = await answer;
  assert.equal(response.status, status);
  assert.ok(error !== undefined);
  assert.equal(error.status, status);
  return error;
}

function kind(problem: storewatch.ProblemDetails): string | undefined {
  return problem.type.split('/').pop();
}

function poll([store_id, status, timestamp]: Row): storewatch.PollRow {
  assert.ok(status === 'active' || status === 'inactive');
  const timestamp_utc = timestamp.replace(' UTC', 'Z').replace(' ', 'T');
  return { store_id, status, timestamp_utc };
}

type Row = [string, string, string, string];

/** The rows of a CSV file in which nothing is quoted. */
async function rows(file: string): Promise<Row[]> {
  const lines = (await readFile(file, 'utf8')).trimEnd().split('\n').slice(1);
  return lines.map((line) => line.split(',') as Row);
}

const [, , url, folder] = process.argv;
void main(url!, folder!);
