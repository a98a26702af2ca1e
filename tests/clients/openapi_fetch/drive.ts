// A report and a store's week, by openapi-fetch with the types that openapi-typescript makes.
// Run by `test_generated_clients.py`: drive.js URL, of a service that has a feed and no key.

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

import createClient from 'openapi-fetch';

import type { components, paths } from './schema';

const PATIENCE = 60_000; // milliseconds

type ReportStatus = components['schemas']['ReportStatus'];

async function main(baseUrl: string): Promise<void> {
  const client = createClient<paths>({ baseUrl });

  const asked = await client.POST('/reports', { body: { interpolation: 'previous' } });
  assert.ok(asked.data, asked.error?.detail);
  const report_id = asked.data.id;
  let status: ReportStatus = asked.data.status;
  for (const deadline = Date.now() + PATIENCE; status !== 'completed'; await sleep(50)) {
    assert.ok(Date.now() < deadline && (status === 'queued' || status === 'running'), status);
    const { data } = await client.GET('/reports/{report_id}', { params: { path: { report_id } } });
    assert.ok(data);
    status = data.status;
  }

  const { data: page } = await client.GET('/stores', { params: { query: { limit: 1 } } });
  const path = { store_id: page!.items[0]!.store_id };
  const { data: store } = await client.GET('/stores/{store_id}', { params: { path } });
  assert.ok(store!.business_hours.every(({ day, start_time_local }) => day < 7 && start_time_local));
  const { data: week } = await client.GET('/stores/{store_id}/timeline', {
    params: { path, query: { max_gap: '12h' } },
  });
  assert.equal(week!.max_gap, '12h');
  assert.ok(week!.polls.every((poll) => Date.parse(poll.timestamp_utc) <= Date.parse(week!.to)));

  const nowhere = { store_id: 'nowhere' };
  const { error } = await client.GET('/stores/{store_id}', { params: { path: nowhere } });
  assert.equal(error?.status, 404);
}

void main(process.argv[2]!);
