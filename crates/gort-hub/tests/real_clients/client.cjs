// pusher-js, unchanged, with the hub. Arguments: module path, port, key, secret.
// Prints a line for each thing that happens; the test reads the lines.
'use strict';
const [, , modulePath, port, key, secret] = process.argv;
const { createHmac } = require('node:crypto');
const loaded = require(modulePath);
const Pusher = loaded.Pusher || loaded.default || loaded;
const say = (...words) => console.log(words.join(' '));
const options = {
  cluster: 'none', wsHost: '127.0.0.1', wsPort: Number(port), forceTLS: false,
  enabledTransports: ['ws'], disableStats: true,
  channelAuthorization: {
    customHandler: ({ socketId, channelName }, done) => {
      const signature = createHmac('sha256', secret).update(`${socketId}:${channelName}`).digest('hex');
      done(null, { auth: `${key}:${signature}` });
    },
  },
};
const pusher = new Pusher(key, options);
const other = new Pusher(key, options);
pusher.connection.bind('error', e => say('ERROR', JSON.stringify(e)));
pusher.connection.bind('state_change', ({ current }) => say('STATE', current));
const news = pusher.subscribe('news');
news.bind('headline', data => say('HEADLINE', JSON.stringify(data)));
const room = pusher.subscribe('private-room');
room.bind('client-hi', data => say('CLIENT-EVENT', JSON.stringify(data)));
const otherRoom = other.subscribe('private-room');
const joined = channel => new Promise(done => channel.bind('pusher:subscription_succeeded', done));
Promise.all([joined(news), joined(room), joined(otherRoom)]).then(() => {
  otherRoom.trigger('client-hi', { text: 'from the other' });
  say('READY', pusher.connection.socket_id);
});
const stranger = new Pusher('no-such-key', options);
stranger.connection.bind('error', e => say('STRANGER', e.error ? e.error.data.code : JSON.stringify(e)));
process.stdin.on('data', () => process.exit(0));
process.stdin.on('end', () => process.exit(0));
