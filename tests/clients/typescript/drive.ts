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

  const known = await given(storewatch.getStoreAvailability({ client, path }));
  assert.equal(known.uptime + known.downtime + known.unknown, known.business_time);

  // A state that only a later version of the service knows arrives as it is.
  const fetch = async () => Response.json({ ...report, status: 'paused' });
  const later = createClient(createConfig({ baseUrl: url, fetch }));
  const unknown = await given(
    storewatch.getReport({ client: later, path: { report_id: report.id } }),
  );
  assert.equal(unknown.status as string, 'paused');

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
